"""Interpolation by two from its formulas: index arithmetic and sums over taps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# One tap of an interpolation along an axis: for every output position, which input position it reads (unclamped)
# and its weight.
Tap = tuple[Tensor, Tensor]
Axis = Callable[[Tensor], list[Tap]]


def bilinear_axis(position: Tensor) -> list[Tap]:
    """Pixel centres aligned (align_corners=False): source (Y + 0.5) / 2 - 0.5, weights by distance."""
    source = (position + 0.5) / 2 - 0.5
    base = source.floor()
    return [(base, 1 - (source - base)), (base + 1, source - base)]


def bilinear_magnitude(position: Tensor) -> list[Tap]:
    """What rounding is measured against: an axis may be computed as a + (b - a) t too, which rounds b - a first.

    torch.compile writes it so. Both taps then count by the larger of their weights.
    """
    first, second = bilinear_axis(position)
    larger = torch.maximum(first[1], second[1])
    return [(first[0], larger), (second[0], larger)]


def bicubic_axis(position: Tensor) -> list[Tap]:
    """Keys' cubic convolution with a = -0.75, as torch and OpenCV have it; centres as in bilinear."""
    a = -0.75
    source = (position + 0.5) / 2 - 0.5
    base = source.floor()

    def near(t: Tensor) -> Tensor:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1

    def far(t: Tensor) -> Tensor:
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a

    t = source - base
    return [(base - 1, far(1 + t)), (base, near(t)), (base + 1, near(1 - t)), (base + 2, far(2 - t))]


def interpolated(x: Tensor, axis: Axis, *, absolute: bool = False) -> Tensor:
    """`x` (N, C, H, W) -> (N, C, 2H, 2W): rows @ x @ columns, the weights of each axis written out as a matrix.

    Positions beyond the image read its border. `absolute` takes every weight's absolute value.
    """
    _, _, H, W = x.shape
    return _weights(H, x, axis, absolute) @ x @ _weights(W, x, axis, absolute).mT


def _weights(size: int, like: Tensor, axis: Axis, absolute: bool) -> Tensor:
    """(2*size, size): how much of each input position every output position takes."""
    source = torch.arange(size, dtype=like.dtype, device=like.device)
    total = torch.zeros(2 * size, size, dtype=like.dtype, device=like.device)
    for index, weight in axis(torch.arange(2 * size, dtype=like.dtype, device=like.device)):
        reads = index.clamp(0, size - 1).unsqueeze(1) == source
        total = total + reads * (weight.abs() if absolute else weight).unsqueeze(1)
    return total


def nearest(x: Tensor) -> Tensor:
    """`x` (N, C, H, W) -> (N, C, 2H, 2W): output pixel (Y, X) is input pixel (Y // 2, X // 2)."""
    N, C, H, W = x.shape
    return x.reshape(N, C, H, 1, W, 1).expand(N, C, H, 2, W, 2).reshape(N, C, 2 * H, 2 * W)
