"""What the contenders for the place of a 3x3 convolution share: their input, and how far their offsets spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from opbench.schema import Dims


def image(dims: Dims, spread: float, generator: torch.Generator) -> dict[str, Tensor]:
    """x (N, C, H, W), standard normal: the input of every contender for the place of a 3x3 convolution."""
    shape = tuple(dims[axis] for axis in "NCHW")
    return {"x": torch.randn(shape, generator=generator, dtype=torch.float64)}


def groups_divide(dims: Dims) -> str | None:
    """Why C and G don't fit together, or None."""
    return None if dims["C"] % dims["G"] == 0 else f"C={dims['C']} is not a multiple of G={dims['G']} groups"


def spread_offsets(
    offset: nn.Linear | nn.Conv2d, rows: slice, features: Tensor, spread: float, generator: torch.Generator
) -> None:
    """Sets the `rows` of a layer that predict offsets, so that on `features` they deviate by `spread` pixels.

    Weights are normal and biases zero; one evaluation of the layer gives the factor. A spread of 0 makes all zero.
    Raises ValueError if the features give nothing to scale.
    """
    with torch.no_grad():
        weight, bias = offset.weight[rows], offset.bias
        assert bias is not None
        weight.normal_(generator=generator)
        bias[rows] = 0
        if not spread:
            weight.zero_()
            return
        channel = 1 if isinstance(offset, nn.Conv2d) else -1
        predicted = offset(features).movedim(channel, 0)[rows]
        deviation = predicted.square().mean().sqrt()
        if not (deviation > 0 and torch.isfinite(deviation)):
            raise ValueError(f"offsets: expected features with a positive, finite deviation, got {deviation.item()}")
        weight *= spread / deviation


def _convolution_backward_macs(arguments: Sequence[Any]) -> int:
    grad, _, weight, *_, wanted = arguments
    macs: int = math.prod(grad) * math.prod(weight[1:]) * (wanted[0] + wanted[1])
    return macs


# torch's own formula for the gradient of a convolution's weight ignores groups: for a depthwise convolution it reports
# C times the multiply-accumulates there are.
GROUPED_CONVOLUTION: Mapping[str, Callable[[Sequence[Any]], int]] = {
    "aten::convolution_backward": _convolution_backward_macs
}
