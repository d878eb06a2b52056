"""CARAFE's rivals for upsampling by two: interpolations, convolutions after them, and learned upsamplers.

Each is torch's own module. Convolutions are 3x3 without bias: so the CARAFE paper (arXiv 1905.02188) counts the rivals
it compares with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from opbench.operators.definitions import convolution, pixel_shuffle
from opbench.operators.linear_terms import multilinear
from opbench.operators.tasks import UPSAMPLE2X
from opbench.operators.upsample_definition import bicubic_axis, bilinear_axis, deconvolution, interpolated, nearest
from opbench.registry import register_operator
from opbench.schema import Cost, Dims, Implementation, Operator, Tensors

# --- Modules that torch doesn't have ----------------------------------------------------------------------------


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


def _spatial_attention(tensors: Tensors) -> Tensor:
    features = interpolated(tensors["x"], bilinear_axis)
    return features * torch.sigmoid(convolution(features, tensors["attention.weight"]))


# --- Declarations -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rival:
    """One row of the table below: what differs between the rivals.

    Costs are functions of C, per input pixel. `terms` is how many products one element sums, of C and the number of
    input pixels: "output" and the gradient of each tensor; None where the rival is no plain sum. `absolute` is the
    definition with absolute constants, where it has negative ones.
    """

    name: str
    title: str
    module: Callable[[int], nn.Module]
    definition: Callable[[Tensors], Tensor]
    params: Callable[[int], int] = lambda C: 0
    macs: Callable[[int], int] = lambda C: 0
    macs_backward: Callable[[int], int] = lambda C: 0
    terms: Callable[[int, int], Mapping[str, int]] | None = None
    absolute: Callable[[Tensors], Tensor] | None = None


def _upsample(mode: str) -> nn.Upsample:
    return nn.Upsample(scale_factor=2, mode=mode)


def _conv3x3(c_in: int, c_out: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)


# Along an axis an input pixel is read by 2 (nearest), up to 4 (bilinear) or 9 (bicubic, at the border) weights.
RIVALS = (
    Rival(
        name="nearest",
        title="nearest",
        module=lambda C: _upsample("nearest"),
        definition=lambda t: nearest(t["x"]),
        terms=lambda C, pixels: {"output": 1, "x": 4},
    ),
    Rival(
        name="bilinear",
        title="bilinear",
        module=lambda C: _upsample("bilinear"),
        definition=lambda t: interpolated(t["x"], bilinear_axis),
        macs=lambda C: 16 * C,
        macs_backward=lambda C: 16 * C,
        terms=lambda C, pixels: {"output": 4, "x": 16},
    ),
    Rival(
        name="bicubic",
        title="bicubic",
        module=lambda C: _upsample("bicubic"),
        definition=lambda t: interpolated(t["x"], bicubic_axis),
        absolute=lambda t: interpolated(t["x"], bicubic_axis, absolute=True),
        macs=lambda C: 64 * C,
        macs_backward=lambda C: 64 * C,
        terms=lambda C, pixels: {"output": 16, "x": 81},
    ),
    Rival(
        name="nearest-conv3x3",
        title="nearest + conv 3x3",
        module=lambda C: nn.Sequential(_upsample("nearest"), _conv3x3(C, C)),
        definition=lambda t: convolution(nearest(t["x"]), t["1.weight"]),
        params=lambda C: 9 * C * C,
        macs=lambda C: 36 * C * C,
        macs_backward=lambda C: 72 * C * C,
        terms=lambda C, pixels: {"output": 9 * C, "x": 4 * 9 * C, "1.weight": 4 * pixels},
    ),
    Rival(
        name="bilinear-conv3x3",
        title="bilinear + conv 3x3",
        module=lambda C: nn.Sequential(_upsample("bilinear"), _conv3x3(C, C)),
        definition=lambda t: convolution(interpolated(t["x"], bilinear_axis), t["1.weight"]),
        params=lambda C: 9 * C * C,
        macs=lambda C: 16 * C + 36 * C * C,
        macs_backward=lambda C: 16 * C + 72 * C * C,
        terms=lambda C, pixels: {"output": 4 * 9 * C, "x": 16 * 9 * C, "1.weight": 4 * 4 * pixels},
    ),
    Rival(
        name="deconv",
        title="transposed conv 3x3",
        module=lambda C: nn.ConvTranspose2d(C, C, 3, stride=2, padding=1, output_padding=1, bias=False),
        definition=lambda t: deconvolution(t["x"], t["weight"]),
        params=lambda C: 9 * C * C,
        macs=lambda C: 9 * C * C,
        macs_backward=lambda C: 18 * C * C,
        terms=lambda C, pixels: {"output": 4 * C, "x": 9 * C, "weight": pixels},
    ),
    Rival(
        name="pixel-shuffle",
        title="conv 3x3 + pixel shuffle",
        module=lambda C: nn.Sequential(_conv3x3(C, 4 * C), nn.PixelShuffle(2)),
        definition=lambda t: pixel_shuffle(convolution(t["x"], t["0.weight"]), 2),
        params=lambda C: 36 * C * C,
        macs=lambda C: 36 * C * C,
        macs_backward=lambda C: 72 * C * C,
        terms=lambda C, pixels: {"output": 9 * C, "x": 36 * C, "0.weight": pixels},
    ),
    Rival(
        name="spatial-attention",
        title="bilinear * spatial attention",
        module=SpatialAttention,
        definition=_spatial_attention,
        params=lambda C: 9 * C,
        macs=lambda C: 16 * C + 36 * C,
        macs_backward=lambda C: 16 * C + 72 * C,
    ),
)


def _interpolation_macs(taps: int) -> Callable[[Sequence[Any]], int]:
    """MACs of a call (input shape, ...): `taps` for each output element, of which there are four per input element."""
    return lambda arguments: int(4 * prod(arguments[0]) * taps)


def _interpolation_backward_macs(taps: int) -> Callable[[Sequence[Any]], int]:
    """MACs of a call (shape of the output's gradient, ...): `taps` for each of its elements."""
    return lambda arguments: int(prod(arguments[0]) * taps)


# Of interpolations by two, which is what this task has. A jit trace hides the factor in a list that fvcore can't read.
FORMULAS: Mapping[str, Callable[[Sequence[Any]], int]] = {
    "aten::upsample_nearest2d": _interpolation_macs(0),
    "aten::upsample_nearest2d_backward": _interpolation_backward_macs(0),
    "aten::upsample_bilinear2d": _interpolation_macs(4),
    "aten::upsample_bilinear2d_backward": _interpolation_backward_macs(4),
    "aten::upsample_bicubic2d": _interpolation_macs(16),
    "aten::upsample_bicubic2d_backward": _interpolation_backward_macs(16),
}


def _operator(rival: Rival) -> Operator:
    def cost(dims: Dims) -> Cost:
        pixels, C = dims["N"] * dims["H"] * dims["W"], dims["C"]
        return Cost(
            params=rival.params(C),
            macs=pixels * rival.macs(C),
            macs_backward=pixels * rival.macs_backward(C),
            elements=pixels * 5 * C + rival.params(C),
        )

    def magnitude_definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
        return (rival.absolute or rival.definition)(tensors)

    def counts(dims: Dims) -> Mapping[str, int]:
        assert rival.terms is not None
        return rival.terms(dims["C"], dims["N"] * dims["H"] * dims["W"])

    return Operator(
        name=rival.name,
        task=UPSAMPLE2X.name,
        title=rival.title,
        source="torch; compared with CARAFE in arXiv 1905.02188",
        module=lambda dims, implementation: rival.module(dims["C"]),
        definition=lambda dims, tensors, training: rival.definition(tensors),
        cost=cost,
        implementations={"torch": Implementation("torch")},
        magnitude=None if rival.terms is None else multilinear(magnitude_definition, counts),
        formulas=FORMULAS,
    )


for _rival in RIVALS:
    register_operator(_operator(_rival))
