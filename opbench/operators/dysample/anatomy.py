"""How DySample's sampling shows inside a module, and what is computed in its place under its name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from opbench.anatomy import Anatomy, CoreReading, WrongDefinition
from opbench.operators.common.displaced import Displaced, Moved, samples, unmoved
from opbench.operators.common.displaced_children import wrong_upsamplings
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


def _described(move: Moved, mode: str = "bilinear", border: str = "border", order: str = "nxgabhw") -> Any:
    """The sampling with another location, interpolation, border, or order of the channels of its offsets."""

    def function(x: Tensor, offset: Tensor, *, scale: int, groups: int) -> Tensor:
        N, _, H, W = x.shape
        lengths = {"n": N, "x": 2, "g": groups, "a": scale, "b": scale, "h": H, "w": W}
        apart = torch.einsum(f"{order}->xnhawbg", offset.reshape([lengths[part] for part in order]))
        moves = apart.reshape(2, N, scale * H, scale * W, groups, 1)
        columns = torch.arange(W).repeat_interleave(scale).view(1, 1, -1, 1, 1)
        rows = torch.arange(H).repeat_interleave(scale).view(1, -1, 1, 1, 1)
        at = Displaced.at(columns, rows, (moves[0], moves[1]), (H, W))
        found = samples(x.permute(0, 2, 3, 1), *move(at), mode, border)
        return found.squeeze(4).flatten(3).permute(0, 3, 1, 2)

    return function


def _dealt(x: Tensor, offset: Tensor, *, scale: int, groups: int) -> Tensor:
    dealt = x.unflatten(1, (-1, groups)).transpose(1, 2).flatten(1, 2)
    out = sampling(dealt, offset, scale=scale, groups=groups)
    back: Tensor = out.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
    return back


WRONG = (
    *wrong_upsamplings(_described),
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
