"""Upsampling by displaced samples as people get it wrong: each of a pixel's children is a sample near it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from opbench.anatomy import WrongDefinition
from opbench.operators.common.displaced import MOVES, Displaced, Moved, unmoved

# Moved into the image it is right here, and with no padding what is said of the padded image is said of the image.
_MOVES = tuple((said, move) for said, move in MOVES if "padded" not in said and "clamped" not in said)
_SAMPLED = (
    ("the sampling with zeros outside, not the border's pixels", "bilinear", "zeros"),
    ("the sampling with reflected borders", "bilinear", "reflection"),
    ("the sampling at the nearest pixel instead of bilinearly", "nearest", "border"),
    ("the bicubic sampling", "bicubic", "border"),
)
# Where the output's pixels are taken from, in what their offsets count, and what lies outside.
BASES = {True: "round pixels spread from corner to corner, and corners not aligned", False: "round the output's pixels"}
UNITS = {"output": "pixels of the output", "half": "normalised units", "input": "pixels of the input"}
BORDERS = {"border": "", "zeros": ", and zeros outside"}


def wrong_upsamplings(described: Callable[[Moved, str, str], Callable[..., Tensor]]) -> tuple[WrongDefinition, ...]:
    """All of them, for an operator: `described(move, mode, border)` is its definition with these exchanged.

    The border continues, and offsets count pixels of the input, as `torch.nn.functional.grid_sample` has it for
    padding_mode="border" without aligned corners.
    """
    halved = "the sampling with offsets in pixels of the output, not of the input"
    return (
        *(WrongDefinition(said, described(move, "bilinear", "border")) for said, move in _MOVES),
        *(WrongDefinition(said, described(unmoved, mode, border)) for said, mode, border in _SAMPLED),
        WrongDefinition(halved, described(_twice_halved, "bilinear", "border")),
        *(
            WrongDefinition(
                f"the sampling {BASES[corners]}, with offsets in {UNITS[units]}{BORDERS[border]}",
                described(_by_children(corners=corners, units=units), "bilinear", border),
            )
            for corners, units, border in product(BASES, UNITS, BORDERS)
            # The operator itself, where a child's place in its parent is left out of the offsets.
            if (corners, units, border) != (False, "input", "border")
        ),
    )


def _twice_halved(at: Displaced) -> tuple[Tensor, Tensor]:
    return at.base_x + at.offset_x / 2, at.base_y + at.offset_y / 2


def _by_children(*, corners: bool, units: str) -> Moved:
    """Locations counted from the output's own pixels: from corner to corner of the image, or from their centres."""

    def moved(at: Displaced) -> tuple[Tensor, Tensor]:
        found = []
        for axis, size, offset in ((2, at.width, at.offset_x), (1, at.height, at.offset_y)):
            count = at.base_x.shape[axis]
            shape = [-1 if place == axis else 1 for place in range(5)]
            own = torch.arange(count, dtype=offset.dtype).view(shape)
            step = size / (count - 1 if corners else count)
            first = -0.5 if corners else step / 2 - 0.5
            found.append(own * step + first + offset * {"output": step, "half": size / 2, "input": 1.0}[units])
        return found[0], found[1]

    return moved
