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

    Ho and Wo are taken from `offset`. One point of the window at a time, so memory stays near that of the output.
    """
    batch, height, width, channels = x.shape
    _, out_height, out_width, _ = offset.shape
    half = (dilation * (kernel_size - 1)) >> 1
    pixels = as_rows(x, group)
    offsets = offset.reshape(batch, out_height, out_width, group, -1, 2)
    masks = mask.reshape(batch, out_height, out_width, group, -1)
    centre_x = (torch.arange(out_width, device=x.device) * stride - pad + half).to(x.dtype).view(out_width, 1)
    centre_y = (torch.arange(out_height, device=x.device) * stride - pad + half).to(x.dtype).view(out_height, 1, 1)

    def term(p: int, i: int, j: int, rows: Tensor, offsets: Tensor, masks: Tensor) -> Tensor:
        at_x = centre_x + (i * dilation - half + offsets[..., p, 0]) * offset_scale
        at_y = centre_y + (j * dilation - half + offsets[..., p, 1]) * offset_scale
        return bilinear(rows, height, width, at_x, at_y, masks[..., p])

    out = torch.zeros(batch, out_height, out_width, group, channels // group, dtype=x.dtype, device=x.device)
    for p, (i, j) in enumerate(window(kernel_size, remove_center)):
        out = out + again_in_backward(term, p, i, j, pixels, offsets, masks)
    return out.reshape(batch, out_height, out_width, channels)


def window(kernel_size: int, remove_center: bool) -> Iterator[tuple[int, int]]:
    """(i, j), steps in x and in y, of every point in order: x outer, y inner."""
    for i in range(kernel_size):
        for j in range(kernel_size):
            if not (remove_center and i == j == kernel_size // 2):
                yield i, j
