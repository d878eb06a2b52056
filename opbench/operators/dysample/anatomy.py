"""How DySample's sampling shows inside a module, and what is computed in its place under its name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor

from opbench.anatomy import Anatomy, CoreReading, WrongDefinition
from opbench.operators.common.displaced import MOVES, Displaced, samples, unmoved
from opbench.operators.dysample.definition import sampling

SCALES = (2, 4, 3, 1)
GROUPS = (4, 1, 2, 8, 16, 3, 6)


def _readings(rows: int, columns: int, counts: Collection[int], attributes: Mapping[str, Any]) -> Iterator[CoreReading]:
    for s in SCALES:
        for g in GROUPS:
            if 2 * g * s * s * rows * columns in counts:
                lengths = {"n": 1, "g": g, "h": rows, "w": columns, "xy": 2, "a": s, "b": s}
                yield CoreReading({"scale": s, "groups": g}, lengths, doubtful=s == 1)


def _lengths(shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, Any]) -> Mapping[str, int]:
    N, C, H, W = shapes["x"]
    s, g = options["scale"], options["groups"]
    return {"n": N, "g": g, "c": C // g, "h": H, "w": W, "xy": 2, "a": s, "b": s}


Move = Callable[[Displaced], tuple[Tensor, Tensor]]


def _described(move: Move, mode: str = "bilinear", border: str = "border", order: str = "nxgabhw") -> Any:
    """The sampling with another location, interpolation, border, or order of the channels of its offsets."""

    def function(x: Tensor, offset: Tensor, *, scale: int, groups: int) -> Tensor:
        N, _, H, W = x.shape
        lengths = {"n": N, "x": 2, "g": groups, "a": scale, "b": scale, "h": H, "w": W}
        apart = torch.einsum(f"{order}->xnhawbg", offset.reshape([lengths[part] for part in order]))
        moves = apart.reshape(2, N, scale * H, scale * W, groups, 1)
        across = torch.arange(W).repeat_interleave(scale).view(1, 1, -1, 1, 1).to(offset.dtype)
        down = torch.arange(H).repeat_interleave(scale).view(1, -1, 1, 1, 1).to(offset.dtype)
        like = moves[0]
        at = Displaced(across.expand_as(like), down.expand_as(like), moves[0], moves[1], H, W, 0)
        found = samples(x.permute(0, 2, 3, 1), *move(at), mode, border)
        return found.squeeze(4).flatten(3).permute(0, 3, 1, 2)

    return function


def _by_children(*, corners: bool, units: str) -> Move:
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


def _twice_halved(at: Displaced) -> tuple[Tensor, Tensor]:
    return at.base_x + at.offset_x / 2, at.base_y + at.offset_y / 2


def _dealt(x: Tensor, offset: Tensor, *, scale: int, groups: int) -> Tensor:
    dealt = x.unflatten(1, (-1, groups)).transpose(1, 2).flatten(1, 2)
    out = sampling(dealt, offset, scale=scale, groups=groups)
    back: Tensor = out.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
    return back


# Moved into the image it is right here, and with no padding what is said of the padded image is said of the image.
_MOVES = tuple((said, move) for said, move in MOVES if "padded" not in said and "clamped" not in said)
# Where the output's pixels are taken from, in what their offsets count, and what lies outside.
BASES = {True: "round pixels spread from corner to corner, and corners not aligned", False: "round the output's pixels"}
UNITS = {"output": "pixels of the output", "half": "normalised units", "input": "pixels of the input"}
BORDERS = {"border": "", "zeros": ", and zeros outside"}
WRONG = (
    *(WrongDefinition(said, _described(move)) for said, move in _MOVES),
    WrongDefinition("the sampling with zeros outside, not the border's pixels", _described(unmoved, border="zeros")),
    WrongDefinition("the sampling with reflected borders", _described(unmoved, border="reflection")),
    WrongDefinition("the sampling at the nearest pixel instead of bilinearly", _described(unmoved, "nearest")),
    WrongDefinition("the bicubic sampling", _described(unmoved, "bicubic")),
    WrongDefinition("the sampling with offsets in pixels of the output, not of the input", _described(_twice_halved)),
    *(
        WrongDefinition(
            f"the sampling {BASES[corners]}, with offsets in {UNITS[units]}{BORDERS[border]}",
            _described(_by_children(corners=corners, units=units), border=border),
        )
        for corners, units, border in product(BASES, UNITS, BORDERS)
        # DySample itself, where a child's place in its parent is left out of the offsets.
        if (corners, units, border) != (False, "input", "border")
    ),
    WrongDefinition(
        "the sampling with rows and columns of a pixel's children exchanged", _described(unmoved, order="nxgbahw")
    ),
    WrongDefinition("the sampling with channels dealt to the groups in turn", _dealt),
)  # fmt: skip

ANATOMY = Anatomy(
    function="DySample's sampling",
    layouts={
        "x": (("n",), ("g", "c"), ("h",), ("w",)),
        "offset": (("n",), ("xy", "g", "a", "b"), ("h",), ("w",)),
        "output": (("n",), ("g", "c"), ("h", "a"), ("w", "b")),
    },
    predicted=("offset",),
    reversible=("xy",),
    definition=sampling,
    quick=_described(unmoved),
    readings=_readings,
    lengths=_lengths,
    words={
        "g": "groups",
        "a": "the children of a pixel",
        "b": "the children of a pixel",
        "h": "rows",
        "w": "columns",
    },
    wrong=WRONG,
    own="the authors' layer",
    around={"before": (), "branch": ("1x1 convolution",), "behind": ()},
)
