"""The slots of a network: the contender that all others of a slot are compared with, and what operators share.

Shared are the input, what the dimensions demand, and how far offsets spread. A task that is one folder's alone, such as
a core by itself, is declared there (`TASKS`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from opbench.registry import register_task
from opbench.schema import Dims, Multiple, Task


def image(dims: Dims, spread: float, generator: torch.Generator) -> dict[str, Tensor]:
    """x (N, C, H, W), standard normal: the input of every operator that maps one image to another."""
    shape = tuple(dims[axis] for axis in "NCHW")
    return {"x": torch.randn(shape, generator=generator, dtype=torch.float64)}


def _interpolation_macs(taps: int) -> Callable[[Sequence[Any]], int]:
    """MACs of a call (input shape, ...): `taps` for each output element, of which there are four per input element."""
    return lambda arguments: int(4 * prod(arguments[0]) * taps)


def _interpolation_backward_macs(taps: int) -> Callable[[Sequence[Any]], int]:
    """MACs of a call (shape of the output's gradient, ...): `taps` for each of its elements."""
    return lambda arguments: int(prod(arguments[0]) * taps)


# By two, which is what `upsample2x` has. A jit trace hides the factor in a list that fvcore can't read.
INTERPOLATIONS: Mapping[str, Callable[[Sequence[Any]], int]] = {
    "aten::upsample_nearest2d": _interpolation_macs(0),
    "aten::upsample_nearest2d_backward": _interpolation_backward_macs(0),
    "aten::upsample_bilinear2d": _interpolation_macs(4),
    "aten::upsample_bilinear2d_backward": _interpolation_backward_macs(4),
    "aten::upsample_bicubic2d": _interpolation_macs(16),
    "aten::upsample_bicubic2d_backward": _interpolation_backward_macs(16),
}

UPSAMPLE2X = register_task(
    Task(
        name="upsample2x",
        title="x2 upsampling: (N, C, H, W) -> (N, C, 2H, 2W)",
        baseline="nearest[torch]",
        dims=("N", "C", "H", "W"),
        inputs=image,
        formulas=INTERPOLATIONS,
    )
)

CONV3X3 = register_task(
    Task(
        name="conv3x3",
        title="3x3 spatial mixing: (N, C, H, W) -> (N, C, H, W)",
        baseline="conv3x3[torch]",
        dims=("N", "C", "H", "W", "G"),
        deformable=True,
        inputs=image,
    )
)

# O is the output's channels: in a YOLO a convolution of stride 2 doubles them, keeps them or, as the stem, makes them.
DOWNSAMPLE2X = register_task(
    Task(
        name="downsample2x",
        title="stride 2: (N, C, H, W) -> (N, O, H/2, W/2)",
        baseline="conv3x3-stride2[torch]",
        dims=("N", "C", "H", "W", "G"),
        defaults={"O": Multiple("C", 2)},
        inputs=image,
    )
)

# The slots of a network: their operators are modules that map an image (N, C, H, W) to one. A name that stands in two
# means the operator of the first, unless the place says which.
SLOTS = (UPSAMPLE2X.name, CONV3X3.name, DOWNSAMPLE2X.name)

# Pixels: every offset at a spread of 0.
SAME = 0.3


def groups_divide(dims: Dims) -> str | None:
    """Why C and G don't fit together, or None."""
    return None if dims["C"] % dims["G"] == 0 else f"C={dims['C']} is not a multiple of G={dims['G']} groups"


def halved(dims: Dims) -> tuple[int, int]:
    """Height and width after a window of 3 with stride 2 and padding 1: halves, rounded up."""
    return (dims["H"] + 1) // 2, (dims["W"] + 1) // 2


def even(dims: Dims) -> str | None:
    """Why an image has no 2 x 2 blocks of pixels, or None."""
    if dims["H"] % 2 == dims["W"] % 2 == 0:
        return None
    return f"{dims['H']} x {dims['W']} pixels: expected an even height and width"


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


# InternImage's width of a group (arXiv 2211.05778, table 1: C' = 16 in T, S and B).
GROUP_CHANNELS = 16


def groups(channels: int) -> int:
    """Into how many groups DCNv3 splits channels: the fewest of at most 16 channels each.

    >>> [groups(channels) for channels in (16, 64, 80, 36)]
    [1, 4, 5, 3]
    """
    return next(channels // width for width in range(min(GROUP_CHANNELS, channels), 0, -1) if channels % width == 0)


def offset_figures(pixels: Tensor) -> dict[str, float]:
    """What training does to offsets (places, offsets), in pixels: how far they reach, and how much of it is content."""
    values = pixels.double()
    return {
        "offset spread": values.square().mean().sqrt().item(),
        "offset variation": values.var(0, correction=0).mean().sqrt().item(),
    }
