"""Shapes and memory formats of CARAFE's core, the same for every kernel of it.

Axes: x (N, C, H, W), mask (N, g*k*k, s*H, s*W), logits (N, s*s*g*k*k, H, W), out (N, C, s*H, s*W).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from opbench.kernels.operation import DTYPES, check_gradient

# What a kernel on the CPU takes its weights from: the mask; logits with dense rows, or with dense channels; or, of the
# logits' shape and contiguous, the weights that their softmax gives, the children of a parent "apart".
Weights = Literal["mask", "logits", "logits last", "apart"]


def check(x: Tensor, mask: Tensor, size: int, groups: int, scale: int, *, fused: bool = False) -> None:
    """Raises TypeError or ValueError where the inputs don't fit together; `fused` takes logits for the mask."""
    name = "logits" if fused else "mask"
    if x.dtype not in DTYPES or x.dtype != mask.dtype:
        raise TypeError(f"x is {x.dtype} and {name} {mask.dtype}; expected one floating dtype for both")
    if size < 1 or size % 2 == 0 or scale < 1 or groups < 1:
        raise ValueError(
            f"kernel_size {size}, group_size {groups}, scale_factor {scale}: expected an odd kernel_size, and all >= 1"
        )
    if x.dim() != 4 or x.shape[1] % groups:
        raise ValueError(f"x is {tuple(x.shape)}; expected (N, C, H, W) with C divisible by group_size {groups}")
    n, _, h, w = x.shape
    if (max(h, w) + size) * scale >= 2**31:
        raise ValueError(f"x is {tuple(x.shape)}; the output's height and width must be below 2**31")
    taps = groups * size * size
    expected = (n, taps * scale * scale, h, w) if fused else (n, taps, scale * h, scale * w)
    if mask.shape != expected:
        raise ValueError(f"{name} is {tuple(mask.shape)}; expected {expected} for x {tuple(x.shape)}")


def channels_last(x: Tensor) -> bool:
    """Whether x is channels-last, or something whose densest axis is the channels."""
    if x.is_contiguous():
        return False
    return x.is_contiguous(memory_format=torch.channels_last) or (x.stride(3) != 1 and x.stride(1) == 1)


def memory_format(last: bool) -> torch.memory_format:
    """Torch's name of it."""
    return torch.channels_last if last else torch.contiguous_format


def output(x: Tensor, scale: int) -> Tensor:
    """An empty output (scale 1: an empty gradient of x) in x's memory format."""
    n, c, h, w = x.shape
    size = (n, c, scale * h, scale * w)
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=memory_format(channels_last(x)))


def gradients(grad: Tensor, x: Tensor, mask: Tensor, scale: int, wanted: Sequence[bool]) -> tuple[Tensor, Tensor]:
    """Empty gradients of x and of what is predicted (mask, logits, offsets); one that isn't wanted has no elements."""
    n, c, h, w = x.shape
    check_gradient(grad, x, (n, c, scale * h, scale * w))
    return (
        output(x, 1) if wanted[0] else x.new_empty(0),
        torch.empty(mask.shape, dtype=mask.dtype, device=mask.device) if wanted[1] else mask.new_empty(0),
    )


def checked_output(x: Tensor, mask: Tensor, size: int, groups: int, scale: int, *, fused: bool = False) -> Tensor:
    """The operation on tensors without data."""
    check(x, mask, size, groups, scale, fused=fused)
    return output(x, scale)


def checked_gradients(grad: Tensor, x: Tensor, mask: Tensor, *rest: Any, fused: bool = False) -> tuple[Tensor, Tensor]:
    """Its backward on tensors without data."""
    *problem, wanted = rest
    check(x, mask, *problem, fused=fused)
    return gradients(grad, x, mask, problem[2], wanted)
