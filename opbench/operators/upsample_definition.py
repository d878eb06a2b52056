"""The formulas of CARAFE's rivals for upsampling by two: index arithmetic and sums over taps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from opbench.operators.definitions import pixel_shuffle, zero_extended

# One tap of an interpolation along an axis: for every output position, which input position it reads (unclamped)
# and its weight.
Tap = tuple[Tensor, Tensor]
Axis = Callable[[Tensor], list[Tap]]


def nearest_axis(position: Tensor) -> list[Tap]:
    """Output position Y reads Y // 2."""
    return [(position // 2, torch.ones_like(position))]


def bilinear_axis(position: Tensor) -> list[Tap]:
    """Pixel centres aligned (align_corners=False): source (Y + 0.5) / 2 - 0.5, weights by distance."""
    source = (position + 0.5) / 2 - 0.5
    base = source.floor()
    return [(base, 1 - (source - base)), (base + 1, source - base)]


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
    total = like.new_zeros(2 * size, size)
    for index, weight in axis(torch.arange(2 * size, dtype=like.dtype, device=like.device)):
        reads = index.clamp(0, size - 1).unsqueeze(1) == source
        total = total + reads * (weight.abs() if absolute else weight).unsqueeze(1)
    return total


def deconvolution(x: Tensor, weight: Tensor) -> Tensor:
    """`x` (N, C, H, W), weight (C, O, 3, 3) -> (N, O, 2H, 2W): transposed convolution, stride 2, padding 1.

    Input row i reaches output rows Y = 2i - 1 + ky. Read the other way, output row Y = 2h + a gathers, over the ky for
    which a + 1 - ky is even, row h + (a + 1 - ky) / 2; the same for columns.
    """
    N, _, H, W = x.shape
    extended = zero_extended(x, 1)
    columns = extended.flatten(2)
    phases = []
    for a in range(2):
        for b in range(2):
            phase = x.new_zeros(N, weight.shape[1], H, W)
            for ky in range(3):
                for kx in range(3):
                    if (a + 1 - ky) % 2 or (b + 1 - kx) % 2:
                        continue
                    top, left = 1 + (a + 1 - ky) // 2, 1 + (b + 1 - kx) // 2
                    product = (weight[:, :, ky, kx].T @ columns).unflatten(2, extended.shape[2:])
                    phase = phase + product[:, :, top : top + H, left : left + W]
            phases.append(phase)
    return pixel_shuffle(torch.stack(phases, 2).flatten(1, 2), 2)
