"""What modules and functions refuse, in the same words: sizes that are no sizes, inputs that are no images."""

from __future__ import annotations

import torch
from torch import Tensor


def check_int(name: str, value: int, least: int) -> None:
    """Raises TypeError unless `value` is an int (a square kernel is one number), ValueError below `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected one int for both axes, got {value!r} of type {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")


def check_whole(where: str, **values: object) -> None:
    """Integers of at least 1. Raises ValueError that says which is not."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{where}: expected {name} to be an integer of at least 1, got {value!r}")


def check_centred(where: str, **kernels: int) -> None:
    """Odd sizes of windows that are centred on a pixel. Raises ValueError that says what to use instead."""
    check_whole(where, **kernels)
    for name, value in kernels.items():
        if value % 2 == 0:
            raise ValueError(
                f"{where}: expected {name} to be odd, because the window is centred on a pixel, got {value}: "
                f"use {value - 1} or {value + 1}"
            )


def check_divides(where: str, **pairs: tuple[int, int]) -> None:
    """Values that a divisor leaves no rest of, as in `c1=(c1, g)`. Raises ValueError that says the next that does."""
    for name, (value, by) in pairs.items():
        if value % by:
            near = " or ".join(str(one) for one in (value // by * by, (value // by + 1) * by) if one)
            raise ValueError(f"{where}: expected {name} to be a multiple of {by}, got {value}: use {near}")


def check_tensors(where: str, **tensors: object) -> None:
    """Raises TypeError that says which of them is no tensor."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{where}: expected {name} to be a torch.Tensor, got {type(tensor).__name__}")


def check_image(where: str, x: Tensor, channels: int) -> None:
    """`x` (N, channels, H, W) with at least one pixel. Raises ValueError for another number of axes or channels."""
    # A trace fixes what is compared, and warns of it.
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return
    if x.dim() != 4 or x.shape[1] != channels:
        raise ValueError(f"{where}: expected x of shape (N, {channels}, H, W), got {tuple(x.shape)}")
