"""DCNv3's sampling from its formula, in the dtype of its inputs: what every core is held to.

`dcnv3_by_loops` is the formula read aloud, one scalar at a time; `dcnv3_definition` is the same thing over whole
images, and a test holds the two equal. Both are written from the published semantics and share nothing with a core.
Gradients come from autograd: at a location with a whole coordinate, where bilinear sampling has a kink, they are those
of the cell to the right of and below it (floor).
"""

from __future__ import annotations

import math
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


def dcnv3_by_loops(
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
    """The same in Python loops over scalars, without gradients: for tiny shapes."""
    batch, height, width, channels = x.shape
    out_height = (height + 2 * pad - (dilation * (kernel_size - 1) + 1)) // stride + 1
    out_width = (width + 2 * pad - (dilation * (kernel_size - 1) + 1)) // stride + 1
    half = (dilation * (kernel_size - 1)) >> 1
    points = [(i, j) for i in range(kernel_size) for j in range(kernel_size)]
    if remove_center:
        del points[len(points) // 2]
    out = torch.zeros(batch, out_height, out_width, channels, dtype=x.dtype)
    for n in range(batch):
        for v in range(out_height):
            for u in range(out_width):
                for c in range(channels):
                    g = c // (channels // group)
                    for p, (i, j) in enumerate(points):
                        at = 2 * (g * len(points) + p)
                        off_x, off_y = offset[n, v, u, at].item(), offset[n, v, u, at + 1].item()
                        weight = mask[n, v, u, g * len(points) + p].item()
                        at_x = u * stride - pad + half + (i * dilation - half + off_x) * offset_scale
                        at_y = v * stride - pad + half + (j * dilation - half + off_y) * offset_scale
                        if -1 < at_x < width and -1 < at_y < height:
                            out[n, v, u, c] += weight * _sample(x[n, :, :, c], at_x, at_y)
    return out


def _sample(image: Tensor, x: float, y: float) -> float:
    height, width = image.shape
    left, top = math.floor(x), math.floor(y)
    total = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < height and 0 <= column < width:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[row, column].item()
    return total
