"""What examples are made of: tensor values, memory layouts, and spaces that a relation narrows.

Every choice shrinks towards the plainer one: fewer elements, ones instead of noise, contiguous memory. Values are
either structured, so that a counterexample can be followed by hand, or drawn from a seeded generator: Hypothesis then
shrinks a seed and a shape, never thousands of floats.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from opbench.build import TORCH_DTYPES
from opbench.relations import Example, Space


def narrowed(space: Space, **options: Any) -> Space | None:
    """The space in which these options (or dimensions N, C, H, W) have these values; None if it has none such."""
    if any(space.fixed.get(name, value) != value for name, value in options.items()):
        return None
    return dataclasses.replace(space, fixed={**space.fixed, **options})


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal float64 values on the CPU, the same for the same seed on any machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noise_like(tensor: Tensor, seed: int) -> Tensor:
    """`noise` of a tensor's shape, dtype and device."""
    return noise(tuple(tensor.shape), seed).to(tensor)


def _ones(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.ones(shape, dtype=torch.float64)


def _ramp(shape: tuple[int, ...], seed: int) -> Tensor:
    """1/8, 2/8, ... 8/8 and again: exact in every dtype, and neighbours along any axis mostly differ."""
    return (torch.arange(torch.Size(shape).numel(), dtype=torch.float64) % 8 + 1).div(8).view(shape)


def _impulse(shape: tuple[int, ...], seed: int) -> Tensor:
    """One 1 among zeros."""
    flat = torch.zeros(torch.Size(shape).numel(), dtype=torch.float64)
    if flat.numel():
        flat[seed % flat.numel()] = 1
    return flat.view(shape)


# Noise finds most faults, so it is drawn most often; the rest is there to shrink to.
_FILLS: tuple[Callable[[tuple[int, ...], int], Tensor], ...] = (_ones, _ramp, _impulse, noise, noise, noise)


@st.composite
def values(draw: st.DrawFn, shape: tuple[int, ...]) -> Tensor:
    """A float64 tensor on the CPU: ones, a ramp, an impulse or noise."""
    fill = draw(st.sampled_from(_FILLS))
    return fill(shape, 0 if fill in (_ones, _ramp) else draw(seeds()))


def seeds() -> st.SearchStrategy[int]:
    """Seeds of `noise`."""
    return st.integers(0, 2**16)


def example(space: Space, options: Mapping[str, Any], **tensors: Tensor) -> Example:
    """The call with these values in the space's dtype and on its device."""
    dtype = TORCH_DTYPES[space.dtype]
    return Example({name: value.to(space.device, dtype) for name, value in tensors.items()}, options)


# --- Memory layouts ---------------------------------------------------------------------------------------------


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _transposed(tensor: Tensor) -> Tensor:
    return tensor.transpose(2, 3).contiguous().transpose(2, 3)


def _strided(tensor: Tensor) -> Tensor:
    """Every other element of its memory; the others are NaN, so that whoever reads them shows it."""
    return torch.stack((tensor, torch.full_like(tensor, torch.nan)), -1)[..., 0]


def _sliced(tensor: Tensor) -> Tensor:
    """The inside of a larger tensor whose border is NaN."""
    inside = tuple(slice(1, size + 1) for size in tensor.shape)
    larger = tensor.new_full([size + 2 for size in tensor.shape], torch.nan)
    larger[inside] = tensor
    return larger[inside]


def _expanded(tensor: Tensor) -> Tensor:
    """All images are the first one, in the same memory (stride 0): other values than the tensor's own."""
    return tensor[:1].expand_as(tensor)


# Tensors of four axes, batch first, in other memory.
LAYOUTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "contiguous": Tensor.contiguous,
    "channels last": _channels_last,
    "transposed": _transposed,
    "strided": _strided,
    "sliced": _sliced,
    "expanded": _expanded,
}


@st.composite
def laid_out(draw: st.DrawFn, examples: st.SearchStrategy[Example]) -> Example:
    """The examples with each tensor in any of `LAYOUTS`."""
    call = draw(examples)
    layouts = st.sampled_from(list(LAYOUTS.values()))
    return call.replace(None, **{name: draw(layouts)(tensor) for name, tensor in call.tensors.items()})
