"""Calls of DCNv3's core, small enough to read: shapes, kernels, groups, offset fields and masks.

A call is x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P) and the core's options. `Space.fixed` narrows
the options, and the dimensions N, H, W and C.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from opbench.conformance.strategies import example, noise, seeds, values
from opbench.relations import Example, Options, Space

# An offset field's kinds, plainer ones first. The first group says where a location ends up between pixels, whatever
# the offset scale; SMOOTH keeps a fifth of a pixel away from whole ones. OUTSIDE leaves the image in x or in y.
ZERO, WHOLE, HALF, NEAR, SMOOTH = "zero", "whole", "half", "nearly whole", "smooth"
QUARTERS, NEGATIVE, NORMAL, FAR = "quarters", "negative", "normal", "far"
OUTSIDE, HUGE, NOT_FINITE = "outside", "huge", "not finite"
# What networks ask for; the others have relations of their own.
ORDINARY = (ZERO, WHOLE, HALF, NEAR, SMOOTH, QUARTERS, NEGATIVE, NORMAL, FAR, OUTSIDE)
# By a whole number in -3..3; ordinary offsets (here 0) among them.
_NOT_FINITE: Tensor = torch.tensor((0, torch.nan, torch.inf, -torch.inf, torch.nan, 0, 0), dtype=torch.float64)
# Displacements in pixels by (whole numbers, noise), and offsets by the same two.
_DISPLACEMENTS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    WHOLE: lambda whole, noise: whole,
    HALF: lambda whole, noise: whole + 0.5,
    NEAR: lambda whole, noise: whole + noise * 2.0**-20,
    SMOOTH: lambda whole, noise: whole + 0.5 + noise.clamp(-1, 1) / 4,
}
_OFFSETS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    ZERO: lambda whole, noise: torch.zeros_like(noise),
    QUARTERS: lambda whole, noise: (4 * noise).round().clamp(-16, 16) / 4,
    NEGATIVE: lambda whole, noise: -2 * noise.abs(),
    NORMAL: lambda whole, noise: 2 * noise,
    FAR: lambda whole, noise: 50 * noise,
    OUTSIDE: lambda whole, noise: _in_one_axis(1e4 * noise.sign(), noise),
    HUGE: lambda whole, noise: _in_one_axis(1e30 * noise.sign(), noise),
    NOT_FINITE: lambda whole, noise: _in_one_axis(_NOT_FINITE[whole.long()], noise),
}
REACH = 3

# A mask's kinds: 1 for one point, 1/P, softmax over the points of a group, and anything.
ONE_HOT, UNIFORM, SOFTMAX, ANY = "one-hot", "uniform", "softmax", "any"
MASKS = (ONE_HOT, UNIFORM, SOFTMAX, ANY)

_CHOICES: Mapping[str, tuple[Any, ...]] = {
    "kernel_size": (1, 2, 3, 3, 4, 5),
    "stride": (1, 2, 3),
    "dilation": (1, 2, 3),
    "group": (1, 2, 3),
    "offset_scale": (1.0, 0.5, 2.0),
    "remove_center": (False, True),
}
_PADS = (0, 1, 2, 3)
# Pixels a side, unless the window needs more.
_LARGEST = 7
_DEEPEST = 3


def calls(
    space: Space,
    *,
    offsets: tuple[str, ...] = ORDINARY,
    masks: tuple[str, ...] = MASKS,
    exact: bool = False,
    oblong: bool = False,
    **choices: tuple[Any, ...],
) -> st.SearchStrategy[Example]:
    """Calls with offsets and masks of these kinds and these choices of options; none if the space fixes others.

    N 1..2, G 1..3, C/G 1..3, H and W 1..7, k 1..5, stride 1..3, pad 0..3, dilation 1..3, offset_scale 0.5, 1 or 2,
    remove_center for odd k > 1. `exact` takes offset scales that are powers of two only: fields of WHOLE, HALF and
    QUARTERS are then exact in any dtype. `oblong` takes H != W.
    """
    narrowed = {**_CHOICES, **choices}
    for name, value in space.fixed.items():
        if name in choices and value not in choices[name]:
            return st.nothing()
        narrowed[name] = (value,)
    if exact:
        narrowed["offset_scale"] = tuple(s for s in narrowed["offset_scale"] if math.frexp(abs(s))[0] == 0.5)
    if False not in narrowed["remove_center"]:
        narrowed["kernel_size"] = tuple(k for k in narrowed["kernel_size"] if _has_centre(k))
    one_size = "H" in space.fixed and space.fixed["H"] == space.fixed.get("W")
    if not all(narrowed.values()) or (oblong and one_size):
        return st.nothing()
    return _calls(space, narrowed, offsets, masks, oblong)


@st.composite
def _calls(
    draw: st.DrawFn,
    space: Space,
    choices: Mapping[str, tuple[Any, ...]],
    offsets: tuple[str, ...],
    masks: tuple[str, ...],
    oblong: bool,
) -> Example:
    def choose(name: str, among: tuple[Any, ...] = ()) -> Any:
        return draw(st.sampled_from(choices.get(name, among)))

    options = {"kernel_size": choose("kernel_size"), "stride": choose("stride")}
    limit = min(int(space.fixed.get(axis, _LARGEST)) for axis in ("H", "W"))
    k, dilation = options["kernel_size"], choose("dilation")
    window = dilation * (k - 1) + 1
    # Half the window always suffices.
    pads = tuple(pad for pad in _PADS if window - 2 * pad <= limit) or (window // 2,)
    options |= {"pad": choose("pad", pads), "dilation": dilation}
    deep = space.fixed.get("C")
    groups = tuple(g for g in choices["group"] if deep is None or deep % g == 0) or choices["group"]
    options["group"] = group = draw(st.sampled_from(groups))
    options["offset_scale"] = scale = choose("offset_scale")
    centres = choices["remove_center"] if _has_centre(k) else (False,)
    options["remove_center"] = draw(st.sampled_from(centres))

    least = max(1, window - 2 * options["pad"])
    sizes = tuple(range(least, max(_LARGEST, least + options["stride"]) + 1))
    N, H = choose("N", (1, 2)), choose("H", sizes)
    W = choose("W", tuple(size for size in sizes if not (oblong and size == H)))
    # Only sizes that the caller has fixed can fail here.
    assume(min(output_size(H, W, options)) >= 1 and not (oblong and H == W))
    depth = draw(st.integers(1, _DEEPEST)) if deep is None else deep // group
    x = draw(values((N, H, W, group * depth)))
    shape = (N, *output_size(H, W, options), group, points(options))
    offset = _field(draw(st.sampled_from(offsets)), shape, steps(options), scale, draw(seeds()))
    return example(space, options, x=x, offset=offset, mask=draw(_masks(draw(st.sampled_from(masks)), shape)))


def _field(kind: str, shape: tuple[int, ...], steps: Tensor, scale: float, seed: int) -> Tensor:
    """An offset field (N, Ho, Wo, G*P*2) of one kind; `shape` is (N, Ho, Wo, G, P)."""
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randint(-REACH, REACH + 1, (*shape, 2), generator=generator).double()
    if kind in _DISPLACEMENTS:
        moved = steps + _DISPLACEMENTS[kind](whole, noise((*shape, 2), seed))
        field = moved / scale - steps
    else:
        field = _OFFSETS[kind](whole, noise((*shape, 2), seed))
    return field.flatten(3)


def _in_one_axis(far: Tensor, ordinary: Tensor) -> Tensor:
    """`far` in x or in y, as the ordinary offset's own sign says; the other one stays ordinary."""
    in_x = ordinary[..., :1] > 0
    return torch.where(torch.cat((in_x, ~in_x), -1), far, ordinary)


@st.composite
def _masks(draw: st.DrawFn, kind: str, shape: tuple[int, ...]) -> Tensor:
    """A mask (N, Ho, Wo, G*P) of one kind; `shape` is (N, Ho, Wo, G, P)."""
    if kind == ONE_HOT:
        mask = torch.zeros(shape, dtype=torch.float64)
        mask[..., draw(st.integers(0, shape[-1] - 1))] = 1
    elif kind == UNIFORM:
        mask = torch.full(shape, 1 / shape[-1], dtype=torch.float64)
    elif kind == SOFTMAX:
        mask = noise(shape, draw(seeds())).softmax(-1)
    else:
        mask = draw(values(shape))
    return mask.flatten(3)


# --- The geometry of a call -------------------------------------------------------------------------------------


def output_size(height: int, width: int, options: Options) -> tuple[int, int]:
    """Ho and Wo of an image of this size."""
    window = options["dilation"] * (options["kernel_size"] - 1) + 1
    outputs = tuple((size + 2 * options["pad"] - window) // options["stride"] + 1 for size in (height, width))
    return outputs[0], outputs[1]


def points(options: Options) -> int:
    """P: the sampling points of one output pixel and group."""
    return int(options["kernel_size"] ** 2 - options["remove_center"])


def half(options: Options) -> int:
    """Pixels from the first point of a window to its centre, rounded down."""
    return int(options["dilation"] * (options["kernel_size"] - 1)) // 2


def steps(options: Options) -> Tensor:
    """(P, 2) float64: where each point lies, (x, y) pixels from the centre of its window; x is the outer axis."""
    k = options["kernel_size"]
    pairs = [(i, j) for i in range(k) for j in range(k)]
    if options["remove_center"]:
        del pairs[len(pairs) // 2]
    grid: Tensor = torch.tensor(pairs, dtype=torch.float64) * options["dilation"] - half(options)
    return grid


def pairs(call: Example) -> Tensor:
    """The call's offsets as (N, Ho, Wo, G, P, 2) pairs (x, y)."""
    offset = call.tensors["offset"]
    pairs: Tensor = offset.reshape(*offset.shape[:3], call.options["group"], points(call.options), 2)
    return pairs


def locations(call: Example) -> tuple[Tensor, Tensor]:
    """x and y of every sample in pixels of the image, (N, Ho, Wo, G, P) float64 each."""
    options = call.options
    moved = (steps(options) + pairs(call).double().cpu()) * options["offset_scale"]
    _, height, width, *_ = moved.shape
    centre = half(options) - options["pad"]
    columns = torch.arange(width, dtype=torch.float64).view(-1, 1, 1) * options["stride"] + centre
    lines = torch.arange(height, dtype=torch.float64).view(-1, 1, 1, 1) * options["stride"] + centre
    return moved[..., 0] + columns, moved[..., 1] + lines


def _has_centre(kernel_size: int) -> bool:
    return kernel_size % 2 == 1 and kernel_size > 1
