"""Calls of CARAFE's core, small enough to read: shapes, scales, kernels, groups and masks.

A call is x (N, C, H, W), mask (N, g*k*k, s*H, s*W) and the options kernel_size k, group_size g and scale_factor s.
`Space.fixed` narrows the options, and the dimensions N, H and W.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from opbench.conformance.strategies import example, narrowed, noise, seeds, values
from opbench.relations import Example, Space

# A mask's kinds, plainer ones first: 1 for one tap, 1/k^2, softmax over the taps of a group, and anything.
ONE_TAP, UNIFORM, SOFTMAX, ANY = "one tap", "uniform", "softmax", "any"
WEIGHTS = (ONE_TAP, UNIFORM, SOFTMAX)
MASKS = (*WEIGHTS, ANY)


def calls(
    space: Space, *, masks: tuple[str, ...] = MASKS, interior: bool = False, **options: Any
) -> st.SearchStrategy[Example]:
    """Calls with a mask of one of these kinds, and with these options; none if the space fixes them otherwise.

    N 1..2, C 1..6, H and W 1..7, k in 1, 3, 5, 7, s 1..4, g dividing C. With `interior`, both sides exceed k, so that
    some window and its neighbours lie wholly inside the image.
    """
    within = narrowed(space, **options)
    return st.nothing() if within is None else _calls(within, masks, interior)


@st.composite
def _calls(draw: st.DrawFn, space: Space, masks: tuple[str, ...], interior: bool) -> Example:
    def choose(name: str, among: st.SearchStrategy[int]) -> int:
        return int(space.fixed[name]) if name in space.fixed else draw(among)

    k = choose("kernel_size", st.sampled_from((1, 3, 5) if interior else (1, 3, 5, 7)))
    s = choose("scale_factor", st.integers(1, 4))
    g = choose("group_size", st.integers(1, 3))
    N = choose("N", st.integers(1, 2))
    C = g * draw(st.integers(1, max(1, 6 // g)))
    sizes = st.integers(k + 1, max(7, k + 2)) if interior else st.one_of(st.integers(1, 7), st.integers(k, k + 1))
    H, W = choose("H", sizes), choose("W", sizes)
    x = draw(values((N, C, H, W)))
    mask = draw(_masks(draw(st.sampled_from(masks)), (N, g, k * k, s * H, s * W)))
    options = {"kernel_size": k, "group_size": g, "scale_factor": s}
    return example(space, options, x=x, mask=mask)


@st.composite
def _masks(draw: st.DrawFn, kind: str, shape: tuple[int, int, int, int, int]) -> Tensor:
    """A mask of one kind, drawn as (N, g, k*k, s*H, s*W), returned as (N, g*k*k, s*H, s*W)."""
    taps = shape[2]
    if kind == ONE_TAP:
        mask = torch.zeros(shape, dtype=torch.float64)
        mask[:, :, draw(st.integers(0, taps - 1))] = 1
    elif kind == UNIFORM:
        mask = torch.full(shape, 1 / taps, dtype=torch.float64)
    elif kind == SOFTMAX:
        mask = noise(shape, draw(seeds())).softmax(2)
    else:
        mask = draw(values(shape))
    return mask.flatten(1, 2)


@st.composite
def with_outside(draw: st.DrawFn, calls: st.SearchStrategy[Example]) -> Example:
    """The calls with Inf or NaN in every tap of the mask that leaves the image."""
    call = draw(calls)
    poison = draw(st.sampled_from((torch.inf, -torch.inf, torch.nan)))
    return call.replace(mask=call.tensors["mask"].masked_fill(outside(call), poison))


def outside(call: Example) -> Tensor:
    """(g*k*k, s*H, s*W) booleans on the call's device: does this tap of this output pixel leave the image?"""
    k, g, s = sizes(call.options)
    x = call.tensors["x"]

    def along(size: int) -> Tensor:
        parent = torch.arange(s * size, device=x.device) // s
        position = parent + torch.arange(k, device=x.device).unsqueeze(1) - k // 2
        return (position < 0) | (position >= size)

    rows, columns = along(x.shape[2]).view(k, 1, -1, 1), along(x.shape[3]).view(1, k, 1, -1)
    return (rows | columns).flatten(0, 1).repeat(g, 1, 1)


def sizes(options: Mapping[str, Any]) -> tuple[int, int, int]:
    """k, g and s of a call's options."""
    return options["kernel_size"], options["group_size"], options["scale_factor"]
