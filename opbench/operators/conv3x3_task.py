"""What deformable contenders for the place of a 3x3 convolution share: how far their offsets spread."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opbench.schema import Dims

# Pixels: every offset at a spread of 0.
SAME = 0.3


def groups_divide(dims: Dims) -> str | None:
    """Why C and G don't fit together, or None."""
    return None if dims["C"] % dims["G"] == 0 else f"C={dims['C']} is not a multiple of G={dims['G']} groups"


def spread_offsets(
    offset: nn.Linear | nn.Conv2d, rows: slice, features: Tensor, spread: float, generator: torch.Generator
) -> None:
    """Sets the `rows` of a layer that predict offsets, so that on `features` they deviate by `spread` pixels.

    Weights are normal and biases zero; one evaluation of the layer gives the factor. At a spread of 0 every offset is
    SAME: as regular as a fresh module's zeros, but off the kink where the gradient of an offset jumps.
    Raises ValueError if the features give nothing to scale.
    """
    with torch.no_grad():
        weight, bias = offset.weight[rows], offset.bias
        assert bias is not None
        weight.normal_(generator=generator)
        bias[rows] = 0
        if not spread:
            weight.zero_()
            bias[rows] = SAME
            return
        channel = 1 if isinstance(offset, nn.Conv2d) else -1
        predicted = offset(features).movedim(channel, 0)[rows]
        deviation = predicted.square().mean().sqrt()
        if not (deviation > 0 and torch.isfinite(deviation)):
            raise ValueError(f"offsets: expected features with a positive, finite deviation, got {deviation.item()}")
        weight *= spread / deviation
