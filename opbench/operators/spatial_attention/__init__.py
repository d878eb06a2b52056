"""Bilinear upsampling weighted by a spatial attention map, the "S.A." of the CARAFE paper (arXiv 1905.02188)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opbench.operators.common.definitions import convolution
from opbench.operators.common.upsampling import Upsampler
from opbench.operators.interpolation.cost import FORMULAS
from opbench.operators.interpolation.definition import bilinear_axis, interpolated
from opbench.schema import Tensors


class SpatialAttention(nn.Module):
    """Bilinear upsampling weighted by an attention map: x (N, C, H, W) -> (N, C, 2H, 2W).

    The map is a 3x3 convolution to one channel and a sigmoid, both at the upsampled size: the only reading of the
    paper's "S.A." that gives its 27,648 FLOPs per input pixel at C = 256 (interpolation 8,192, convolution 18,432,
    product 1,024).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.attention = nn.Conv2d(channels, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The upsampled features times their attention map."""
        features: Tensor = self.upsample(x)
        return features * torch.sigmoid(self.attention(features))


def _definition(tensors: Tensors) -> Tensor:
    features = interpolated(tensors["x"], bilinear_axis)
    return features * torch.sigmoid(convolution(features, tensors["attention.weight"]))


ATTENTION = Upsampler(
    name="spatial-attention",
    title="bilinear * spatial attention",
    module=SpatialAttention,
    definition=_definition,
    params=lambda C: 9 * C,
    macs=lambda C: 16 * C + 36 * C,
    macs_backward=lambda C: 16 * C + 72 * C,
    formulas=FORMULAS,
)

OPERATORS = (ATTENTION.operator(),)
