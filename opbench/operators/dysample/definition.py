"""DySample written out from the paper's equations (arXiv 2308.15085, section 3), in the dtype of its inputs.

Where the paper leaves an order open, it is that of the authors' code: channels of offset and scope are (x or y, group,
row of the child, column of the child), and a child's place is counted from the centre of its parent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.operators.common.definitions import convolution, pixel_shuffle
from opbench.schema import Tensors


def sampling(x: Tensor, offset: Tensor, *, scale: int, groups: int) -> Tensor:
    """x (N, C, H, W), offset (N, 2*groups*scale**2, H, W) in pixels -> (N, C, scale*H, scale*W).

    Child (a, b) of pixel (h, w) is x at row h + offset y, column w + offset x, bilinearly; places outside the pixels'
    centres are moved onto the nearest (the border continues).
    """
    N, C, H, W = x.shape
    size = (scale * H, scale * W)
    moves = pixel_shuffle(offset, scale).reshape(N, 2, groups, *size)
    parents = [
        torch.arange(n, dtype=offset.dtype, device=x.device).repeat_interleave(scale).view(shape)
        for n, shape in ((W, (1, -1)), (H, (-1, 1)))
    ]
    across = (parents[0] + moves[:, 0]).clamp(0, W - 1)
    down = (parents[1] + moves[:, 1]).clamp(0, H - 1)
    # A neighbour outside has no weight, and the border's value: so there is no slope there either.
    left, top = torch.floor(across), torch.floor(down)
    pixels = x.reshape(N, groups, C // groups, H * W)
    total = x.new_zeros(N, groups, C // groups, size[0] * size[1])
    for row, share_y in ((top, 1 - (down - top)), (top + 1, down - top)):
        for column, share_x in ((left, 1 - (across - left)), (left + 1, across - left)):
            place = row.clamp(0, H - 1) * W + column.clamp(0, W - 1)
            index = place.long().flatten(2).unsqueeze(2).expand_as(total)
            total = total + pixels.gather(3, index) * (share_y * share_x).flatten(2).unsqueeze(2)
    return total.reshape(N, C, *size)


def module(tensors: Tensors, *, scale: int, style: str, groups: int) -> Tensor:
    """The layer: `tensors` are x and what its state dict holds; it has a dynamic scope where "scope.weight" is there.

    Style "lp" predicts at the input's size, "pl" at the output's, from the input's shuffled pixels.
    """
    x = tensors["x"]
    features = pixel_shuffle(x, scale) if style == "pl" else x
    moves = convolution(features, tensors["offset.weight"], tensors["offset.bias"])
    if "scope.weight" in tensors:
        logits = convolution(features, tensors["scope.weight"], tensors.get("scope.bias"))
        moves = moves * torch.sigmoid(logits) * 0.5
    else:
        moves = moves * 0.25
    if style == "pl":
        N, _, H, W = x.shape
        apart = moves.reshape(N, 2 * groups, H, scale, W, scale).permute(0, 1, 3, 5, 2, 4)
        moves = apart.reshape(N, 2 * groups * scale**2, H, W)
    return sampling(x, moves + tensors["init_pos"], scale=scale, groups=groups)
