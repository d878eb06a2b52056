"""A 3x3 convolution to four times the channels, moved to twice the size: sub-pixel convolution (arXiv 1609.05158)."""

from __future__ import annotations

from torch import nn

from opbench.operators.common.definitions import convolution, pixel_shuffle
from opbench.operators.common.upsampling import Upsampler, conv3x3

PIXEL_SHUFFLE = Upsampler(
    name="pixel-shuffle",
    title="conv 3x3 + pixel shuffle",
    module=lambda C: nn.Sequential(conv3x3(C, 4 * C), nn.PixelShuffle(2)),
    definition=lambda t: pixel_shuffle(convolution(t["x"], t["0.weight"]), 2),
    params=lambda C: 36 * C * C,
    macs=lambda C: 36 * C * C,
    macs_backward=lambda C: 72 * C * C,
    terms=lambda C, pixels: {"output": 9 * C, "x": 36 * C, "0.weight": pixels},
)

OPERATORS = (PIXEL_SHUFFLE.operator(),)
