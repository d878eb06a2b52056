"""How CARAFE's reassembly shows inside a module, and what is computed in its place under its name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.anatomy import Anatomy, CoreReading, WrongDefinition
from opbench.operators.carafe.definition import reassembly

KERNELS = (5, 3, 7, 1, 9, 11)
GROUPS = (1, 2, 4, 3, 8, 16)
SCALES = (2, 4, 3, 1, 8)


def _readings(rows: int, columns: int, counts: Collection[int], attributes: Mapping[str, Any]) -> Iterator[CoreReading]:
    for s in SCALES:
        for g in GROUPS:
            for k in KERNELS:
                if g * k * k * s * s * rows * columns in counts and k * s > 1:
                    yield CoreReading(
                        {"kernel_size": k, "group_size": g, "scale_factor": s},
                        {"n": 1, "g": g, "ky": k, "kx": k, "h": rows, "a": s, "w": columns, "b": s},
                        # Of an image that was made larger before, s = 1 is a part of another function; k = 1 is a
                        # product, which much is.
                        doubtful=s == 1 or k == 1,
                    )


def _lengths(shapes: Mapping[str, tuple[int, ...]], options: Mapping[str, Any]) -> Mapping[str, int]:
    N, C, H, W = shapes["x"]
    k, g, s = options["kernel_size"], options["group_size"], options["scale_factor"]
    return {"n": N, "g": g, "c": C // g, "ky": k, "kx": k, "h": H, "a": s, "w": W, "b": s}


# --- What else is computed under the name -----------------------------------------------------------------------


def _windows(image: Tensor, kernel_size: int, dilation: int, mode: str = "constant") -> Tensor:
    """image (N, C, Y, X) -> (N, C, k*k, Y, X): the dilated window around every pixel."""
    reach = dilation * (kernel_size // 2)
    height, width = image.shape[2:]
    extended = F.pad(image, (reach,) * 4, mode=mode)
    steps = [(dilation * i, dilation * j) for i in range(kernel_size) for j in range(kernel_size)]
    return torch.stack([extended[..., i : i + height, j : j + width] for i, j in steps], 2)


def _weighed(windows: Tensor, mask: Tensor, group_size: int) -> Tensor:
    """windows (N, C, k*k, Y, X), mask (N, g*k*k, Y, X) -> (N, C, Y, X)."""
    of_groups = windows.unflatten(1, (group_size, -1)) * mask.unflatten(1, (group_size, 1, -1))
    weighed: Tensor = of_groups.sum(3).flatten(1, 2)
    return weighed


def _with_border(mode: str) -> Callable[..., Tensor]:
    def function(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
        windows = _windows(x, kernel_size, 1, mode)
        larger = windows.repeat_interleave(scale_factor, -2).repeat_interleave(scale_factor, -1)
        return _weighed(larger, mask, group_size)

    return function


def _upsampled(mode: str, *, dilated: bool) -> Callable[..., Tensor]:
    def function(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
        larger = F.interpolate(x, scale_factor=scale_factor, mode=mode)
        windows = _windows(larger, kernel_size, scale_factor if dilated else 1)
        return _weighed(windows, mask, group_size)

    return function


def _renormalised(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    options = {"kernel_size": kernel_size, "group_size": group_size, "scale_factor": scale_factor}
    return reassembly(x, mask, **options) / reassembly(torch.ones_like(x), mask, **options)


def _dilated(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    windows = _windows(x, kernel_size, scale_factor)
    larger = windows.repeat_interleave(scale_factor, -2).repeat_interleave(scale_factor, -1)
    return _weighed(larger, mask, group_size)


def _unweighed(x: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    mean = F.avg_pool2d(x, kernel_size, 1, kernel_size // 2)
    return F.interpolate(mean, scale_factor=scale_factor)


def _interleaved(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    dealt = x.unflatten(1, (-1, group_size)).transpose(1, 2).flatten(1, 2)
    out = reassembly(dealt, mask, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)
    back: Tensor = out.unflatten(1, (group_size, -1)).transpose(1, 2).flatten(1, 2)
    return back


def _shifted(step: int) -> Callable[..., Tensor]:
    def function(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
        moved = F.pad(x, (1, 1, 1, 1)).roll((step, step), (2, 3))[..., 1:-1, 1:-1]
        return reassembly(moved, mask, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)

    return function


def _crossed(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """Child (a, b) of a parent gets the mask of child (b, a)."""
    s = scale_factor
    apart = mask.unflatten(3, (-1, s)).unflatten(2, (-1, s)).transpose(3, 5)
    exchanged = apart.flatten(4, 5).flatten(2, 3)
    return reassembly(x, exchanged, kernel_size=kernel_size, group_size=group_size, scale_factor=s)


def _interpolated(mode: str, **more: Any) -> Callable[..., Tensor]:
    def function(x: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
        return F.interpolate(x, scale_factor=scale_factor, mode=mode, **more)

    return function


_OF_X = ("x",)
WRONG = (
    WrongDefinition(
        "the reassembly with the window taken on the upsampled image", _upsampled("nearest", dilated=False)
    ),
    WrongDefinition("the reassembly with reflected borders", _with_border("reflect")),
    WrongDefinition("the reassembly with replicated borders", _with_border("replicate")),
    WrongDefinition("the reassembly with borders that wrap round", _with_border("circular")),
    WrongDefinition("the reassembly with taps outside the image weighed anew", _renormalised),
    WrongDefinition("the reassembly of the bilinearly upsampled image", _upsampled("bilinear", dilated=True)),
    WrongDefinition(
        "the reassembly with the window taken on the bilinearly upsampled image", _upsampled("bilinear", dilated=False)
    ),
    WrongDefinition("the reassembly with a window dilated by the scale factor", _dilated),
    WrongDefinition("the reassembly with channels dealt to the groups in turn", _interleaved),
    WrongDefinition("the reassembly with the window one pixel too far up and left", _shifted(1)),
    WrongDefinition("the reassembly with the window one pixel too far down and right", _shifted(-1)),
    WrongDefinition("the reassembly with the masks of a pixel's children exchanged", _crossed),
    WrongDefinition("nearest-neighbour interpolation; no mask takes part", _interpolated("nearest"), _OF_X),
    WrongDefinition("bilinear interpolation; no mask takes part", _interpolated("bilinear"), _OF_X),
    WrongDefinition(
        "bilinear interpolation with aligned corners; no mask takes part",
        _interpolated("bilinear", align_corners=True),
        _OF_X,
    ),
    WrongDefinition("bicubic interpolation; no mask takes part", _interpolated("bicubic"), _OF_X),
    WrongDefinition("the plain mean of the window; the mask is dropped", _unweighed, _OF_X),
)

ANATOMY = Anatomy(
    function="CARAFE's reassembly",
    layouts={
        "x": (("n",), ("g", "c"), ("h",), ("w",)),
        "mask": (("n",), ("g", "ky", "kx"), ("h", "a"), ("w", "b")),
        "output": (("n",), ("g", "c"), ("h", "a"), ("w", "b")),
    },
    predicted=("mask",),
    normalised={"mask": ("ky", "kx")},
    definition=reassembly,
    readings=_readings,
    lengths=_lengths,
    words={
        "g": "groups",
        "ky": "the k*k taps of one window",
        "kx": "the k*k taps of one window",
        "a": "the children of a pixel",
        "b": "the children of a pixel",
        "h": "rows",
        "w": "columns",
    },
    wrong=WRONG,
    around={"before": (), "branch": ("1x1 convolution", "convolution", "pixel shuffle", "softmax"), "behind": ()},
)
