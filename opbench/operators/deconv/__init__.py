"""Transposed 3x3 convolution of stride 2: a learned upsampler."""

from __future__ import annotations

from torch import nn

from opbench.operators.common.upsampling import Upsampler
from opbench.operators.deconv.definition import deconvolution

DECONV = Upsampler(
    name="deconv",
    title="transposed conv 3x3",
    module=lambda C: nn.ConvTranspose2d(C, C, 3, stride=2, padding=1, output_padding=1, bias=False),
    definition=lambda t: deconvolution(t["x"], t["weight"]),
    params=lambda C: 9 * C * C,
    macs=lambda C: 9 * C * C,
    macs_backward=lambda C: 18 * C * C,
    terms=lambda C, pixels: {"output": 4 * C, "x": 9 * C, "weight": pixels},
)

OPERATORS = (DECONV.operator(),)
