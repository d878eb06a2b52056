"""How DCNv3's sampling shows inside a module, and what is computed in its place under its name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor

from opbench.anatomy import Anatomy, CoreReading, WrongDefinition
from opbench.operators.common.displaced import Displaced, Moved, samples, unmoved, windows, wrong_samplings
from opbench.operators.dcnv3.definition import dcnv3_definition, window

KERNELS = (3, 5, 7, 1, 2, 4)
GROUPS = (1, 2, 4, 8, 3, 5, 6, 7, 10, 12, 14, 16, 20, 24, 32)


def _readings(rows: int, columns: int, counts: Collection[int], attributes: Mapping[str, Any]) -> Iterator[CoreReading]:
    scales = {1.0: None, **dict.fromkeys(float(v) for name, v in attributes.items() if "scale" in name and v)}
    for remove_center in (False, True):
        for own, v, u in windows([k for k in KERNELS if k > 1 or not remove_center], rows, columns):
            points = own["kernel_size"] ** 2 - remove_center
            for g, scale in product(GROUPS, scales):
                if g * points * v * u in counts and 2 * g * points * v * u in counts:
                    options = {**own, "group": g, "offset_scale": scale, "remove_center": remove_center}
                    yield CoreReading(options, _windowed({"n": 1, "g": g, "h": rows, "w": columns}, v, u, options))


def _windowed(lengths: Mapping[str, int], v: int, u: int, options: Mapping[str, Any]) -> dict[str, int]:
    k = options["kernel_size"]
    i, j = (k * k - 1, 1) if options["remove_center"] else (k, k)
    return {**lengths, "v": v, "u": u, "i": i, "j": j, "xy": 2}


def _lengths(shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, Any]) -> Mapping[str, int]:
    N, H, W, C = shapes["x"]
    g = options["group"]
    return _windowed({"n": N, "g": g, "c": C // g, "h": H, "w": W}, shapes["offset"][1], shapes["offset"][2], options)


def _displaced(x: Tensor, offset: Tensor, **options: Any) -> Displaced:
    stride, pad, dilation, group = (options[name] for name in ("stride", "pad", "dilation", "group"))
    k, scale = options["kernel_size"], options["offset_scale"]
    half = (dilation * (k - 1)) >> 1
    N, v, u, _ = offset.shape
    pairs = offset.reshape(N, v, u, group, -1, 2) * scale
    points = torch.tensor(list(window(k, options["remove_center"])), dtype=x.dtype)
    steps = (points * dilation - half) * scale
    columns = (torch.arange(u) * stride - pad + half).to(x.dtype).view(1, 1, u, 1, 1) + steps[:, 0]
    rows = (torch.arange(v) * stride - pad + half).to(x.dtype).view(1, v, 1, 1, 1) + steps[:, 1]
    return Displaced.at(columns, rows, (pairs[..., 0], pairs[..., 1]), (x.shape[1], x.shape[2]), pad)


def _described(move: Moved, mode: str, border: str, weight: float | None) -> Any:
    def function(x: Tensor, offset: Tensor, mask: Tensor | None = None, **options: Any) -> Tensor:
        at = _displaced(x, offset, **options)
        points = samples(x, *move(at), mode, border)
        if mask is None:
            # A weight below 0 stands for one over the points.
            weights: Tensor | float = 1 / points.shape[4] if weight is None or weight < 0 else weight
        else:
            weights = mask.reshape(*points.shape[:5], 1)
        return (points * weights).sum(4).flatten(3)

    return function


def _unscaled_grid(x: Tensor, offset: Tensor, mask: Tensor, **options: Any) -> Tensor:
    return dcnv3_definition(x, offset * options["offset_scale"], mask, **{**options, "offset_scale": 1.0})


WRONG = (
    WrongDefinition("the sampling with offset_scale on the offsets alone, not on the window", _unscaled_grid),
    *wrong_samplings(_described, ("x", "offset"), -1.0),
)

ANATOMY = Anatomy(
    function="DCNv3's sampling",
    layouts={
        "x": (("n",), ("h",), ("w",), ("g", "c")),
        "offset": (("n",), ("v",), ("u",), ("g", "i", "j", "xy")),
        "mask": (("n",), ("v",), ("u",), ("g", "i", "j")),
        "output": (("n",), ("v",), ("u",), ("g", "c")),
    },
    predicted=("offset", "mask"),
    normalised={"mask": ("i", "j")},
    reversible=("xy",),
    definition=dcnv3_definition,
    quick=_described(unmoved, "bilinear", "zeros", None),
    readings=_readings,
    lengths=_lengths,
    words={
        "g": "groups",
        "i": "the points of one window and group",
        "j": "the points of one window and group",
        "v": "rows",
        "u": "columns",
    },
    wrong=WRONG,
    own="InternImage's layer",
    around={
        "before": ("1x1 convolution",),
        "branch": ("depthwise convolution", "layer norm", "GELU", "1x1 convolution", "1x1 convolution", "softmax"),
        "behind": ("1x1 convolution",),
    },
)
