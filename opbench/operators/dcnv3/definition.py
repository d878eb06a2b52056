"""DCNv3's sampling from its formula, in the dtype of its inputs: what every core is held to.

Written from the published semantics, sharing nothing with a core; a test holds it equal to the formula read aloud, one
scalar at a time. Gradients come from autograd: at a location with a whole coordinate, where bilinear sampling has a
kink, they are those of the cell to the right of and below it (floor).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from opbench.operators.common.bilinear import again_in_backward, as_rows, bilinear

# Elements of the output, times points, that are computed at once.
TOGETHER = 1 << 14


def dcnv3_definition(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    kernel_size: int,
    stride: int,
    pad: int,
    dilation: int,
    group: int,
    offset_scale: float = 1.0,
    remove_center: bool = False,
) -> Tensor:
    """x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P) -> (N, Ho, Wo, C).

    Ho and Wo are taken from `offset`. Few points of the window at a time, so memory stays near that of the output; of
    a small image all at once, as then it is the number of steps that takes the time.
    """
    batch, height, width, channels = x.shape
    _, out_height, out_width, _ = offset.shape
    half = (dilation * (kernel_size - 1)) >> 1
    pixels = as_rows(x, group)
    offsets = offset.reshape(batch, out_height, out_width, group, -1, 2)
    masks = mask.reshape(batch, out_height, out_width, group, -1)
    centre_x = (torch.arange(out_width, device=x.device) * stride - pad + half).to(x.dtype).view(out_width, 1, 1)
    centre_y = (torch.arange(out_height, device=x.device) * stride - pad + half).to(x.dtype).view(out_height, 1, 1, 1)

    points = list(window(kernel_size, remove_center))
    steps = torch.tensor(points, dtype=x.dtype, device=x.device).view(-1, 2) * dilation - half

    def terms(some: slice, rows: Tensor, offsets: Tensor, masks: Tensor) -> Tensor:
        at_x = centre_x + (steps[some, 0] + offsets[..., some, 0]) * offset_scale
        at_y = centre_y + (steps[some, 1] + offsets[..., some, 1]) * offset_scale
        return bilinear(rows, height, width, at_x, at_y, masks[..., some])

    out = torch.zeros(batch, out_height, out_width, group, channels // group, dtype=x.dtype, device=x.device)
    together = max(1, TOGETHER // max(1, out.numel()))
    for p in range(0, len(points), together):
        out = out + again_in_backward(terms, slice(p, p + together), pixels, offsets, masks)
    return out.reshape(batch, out_height, out_width, channels)


def window(kernel_size: int, remove_center: bool) -> Iterator[tuple[int, int]]:
    """(i, j), steps in x and in y, of every point in order: x outer, y inner."""
    for i in range(kernel_size):
        for j in range(kernel_size):
            if not (remove_center and i == j == kernel_size // 2):
                yield i, j
