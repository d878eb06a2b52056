"""How DCNv2's convolution shows inside a module, and what is computed in its place under its name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from opbench.anatomy import Anatomy, CoreReading
from opbench.operators.common.displaced import Displaced, Moved, samples, unmoved, windows, wrong_samplings
from opbench.operators.dcnv2.definition import dcnv2_definition

KERNELS = (3, 5, 1, 7)
GROUPS = (1, 2, 4, 8, 16)


def _readings(rows: int, columns: int, counts: Collection[int], attributes: Mapping[str, Any]) -> Iterator[CoreReading]:
    for window, v, u in windows(KERNELS, rows, columns):
        k = window.pop("kernel_size")
        for g in GROUPS:
            if g * k * k * v * u in counts and 2 * g * k * k * v * u in counts:
                lengths = {"n": 1, "g": g, "h": rows, "w": columns, "v": v, "u": u, "i": k, "j": k, "yx": 2}
                yield CoreReading({**window, "group": g}, lengths)


def _lengths(shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, Any]) -> Mapping[str, int]:
    N, C, H, W = shapes["x"]
    g = options["group"]
    outputs, _, k, _ = shapes["weight"]
    v, u = shapes["offset"][2:]
    return {"n": N, "g": g, "c": C // g, "h": H, "w": W, "v": v, "u": u, "i": k, "j": k, "yx": 2, "o": outputs}


def _described(move: Moved, mode: str, border: str, weight: float | None) -> Any:
    ones = weight

    def function(x: Tensor, offset: Tensor, mask: Tensor | None = None, *, weight: Tensor, **options: Any) -> Tensor:
        outputs, channels, k, _ = weight.shape
        group, dilation, pad = options["group"], options["dilation"], options["pad"]
        N, _, v, u = offset.shape
        pairs = offset.permute(0, 2, 3, 1).reshape(N, v, u, group, k * k, 2)
        tap = torch.arange(k * k)
        rows = (torch.arange(v) * options["stride"] - pad).view(1, v, 1, 1, 1) + tap // k * dilation
        columns = (torch.arange(u) * options["stride"] - pad).view(1, 1, u, 1, 1) + tap % k * dilation
        at = Displaced.at(columns, rows, (pairs[..., 1], pairs[..., 0]), (x.shape[2], x.shape[3]), pad)
        points = samples(x.permute(0, 2, 3, 1), *move(at), mode, border)
        if mask is None:
            points = points * (1.0 if ones is None else ones)
        else:
            points = points * mask.permute(0, 2, 3, 1).reshape(*points.shape[:5], 1)
        matrix = weight.reshape(outputs, group, channels // group, k * k)
        return torch.einsum("nvugpc,ogcp->novu", points, matrix)

    return function


ANATOMY = Anatomy(
    function="DCNv2's convolution",
    layouts={
        "x": (("n",), ("g", "c"), ("h",), ("w",)),
        "offset": (("n",), ("g", "i", "j", "yx"), ("v",), ("u",)),
        "mask": (("n",), ("g", "i", "j"), ("v",), ("u",)),
        "weight": (("o",), ("g", "c"), ("i",), ("j",)),
        "output": (("n",), ("o",), ("v",), ("u",)),
    },
    predicted=("offset", "mask"),
    reversible=("yx",),
    parameters=("weight",),
    definition=dcnv2_definition,
    quick=_described(unmoved, "bilinear", "zeros", None),
    readings=_readings,
    lengths=_lengths,
    wrong=wrong_samplings(_described, ("x", "offset", "weight"), None),
    own="the paper's layer",
    around={"before": (), "branch": ("convolution", "sigmoid"), "behind": ()},
)
