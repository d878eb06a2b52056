"""Interpolations for upsampling by two: nearest, bilinear and bicubic, and the first two with a convolution after them.

Each is torch's own module.
"""

from __future__ import annotations

from torch import nn

from opbench.operators.common.definitions import convolution
from opbench.operators.common.upsampling import Upsampler, conv3x3
from opbench.operators.interpolation.cost import FORMULAS
from opbench.operators.interpolation.definition import (
    bicubic_axis,
    bilinear_axis,
    bilinear_magnitude,
    interpolated,
    nearest,
)


def _upsample(mode: str) -> nn.Upsample:
    return nn.Upsample(scale_factor=2, mode=mode)


# Along an axis an input pixel is read by 2 (nearest), up to 4 (bilinear) or 9 (bicubic, at the border) weights.
INTERPOLATIONS = (
    Upsampler(
        name="nearest",
        title="nearest",
        module=lambda C: _upsample("nearest"),
        definition=lambda t: nearest(t["x"]),
        terms=lambda C, pixels: {"output": 1, "x": 4},
        formulas=FORMULAS,
    ),
    Upsampler(
        name="bilinear",
        title="bilinear",
        module=lambda C: _upsample("bilinear"),
        definition=lambda t: interpolated(t["x"], bilinear_axis),
        absolute=lambda t: interpolated(t["x"], bilinear_magnitude),
        macs=lambda C: 16 * C,
        macs_backward=lambda C: 16 * C,
        terms=lambda C, pixels: {"output": 4, "x": 16},
        formulas=FORMULAS,
    ),
    Upsampler(
        name="bicubic",
        title="bicubic",
        module=lambda C: _upsample("bicubic"),
        definition=lambda t: interpolated(t["x"], bicubic_axis),
        absolute=lambda t: interpolated(t["x"], bicubic_axis, absolute=True),
        macs=lambda C: 64 * C,
        macs_backward=lambda C: 64 * C,
        terms=lambda C, pixels: {"output": 16, "x": 81},
        formulas=FORMULAS,
    ),
    Upsampler(
        name="nearest-conv3x3",
        title="nearest + conv 3x3",
        module=lambda C: nn.Sequential(_upsample("nearest"), conv3x3(C, C)),
        definition=lambda t: convolution(nearest(t["x"]), t["1.weight"]),
        params=lambda C: 9 * C * C,
        macs=lambda C: 36 * C * C,
        macs_backward=lambda C: 72 * C * C,
        terms=lambda C, pixels: {"output": 9 * C, "x": 4 * 9 * C, "1.weight": 4 * pixels},
        formulas=FORMULAS,
    ),
    Upsampler(
        name="bilinear-conv3x3",
        title="bilinear + conv 3x3",
        module=lambda C: nn.Sequential(_upsample("bilinear"), conv3x3(C, C)),
        definition=lambda t: convolution(interpolated(t["x"], bilinear_axis), t["1.weight"]),
        absolute=lambda t: convolution(interpolated(t["x"], bilinear_magnitude), t["1.weight"]),
        params=lambda C: 9 * C * C,
        macs=lambda C: 16 * C + 36 * C * C,
        macs_backward=lambda C: 16 * C + 72 * C * C,
        terms=lambda C, pixels: {"output": 4 * 9 * C, "x": 16 * 9 * C, "1.weight": 4 * 4 * pixels},
        formulas=FORMULAS,
    ),
)

OPERATORS = tuple(row.operator() for row in INTERPOLATIONS)
