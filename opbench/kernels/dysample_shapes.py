"""Shapes and memory formats of DySample's sampling, the same for every kernel of it.

Axes: x (N, C, H, W), offset (N, 2*G*s*s, H, W), out (N, C, s*H, s*W).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from opbench.kernels.carafe_shapes import gradients, output
from opbench.kernels.operation import DTYPES

# A location is held in 32 bits as it is rounded to a pixel.
LARGEST = 2**29


def located_in(dtype: torch.dtype) -> torch.dtype:
    """The dtype of offsets and locations: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def check(x: Tensor, offset: Tensor, scale: int, groups: int) -> None:
    """Raises TypeError or ValueError where the inputs don't fit together."""
    if x.dtype not in DTYPES or offset.dtype != located_in(x.dtype):
        raise TypeError(f"x is {x.dtype}, offset {offset.dtype}; expected a floating x, offset of float32 at least")
    if scale < 1 or groups < 1:
        raise ValueError(f"scale {scale}, groups {groups}: expected both >= 1")
    if x.dim() != 4 or x.shape[1] % groups:
        raise ValueError(f"x is {tuple(x.shape)}; expected (N, C, H, W) with C divisible by groups {groups}")
    n, _, h, w = x.shape
    if min(h, w) < 1 or max(h, w) * scale >= LARGEST:
        raise ValueError(f"x is {tuple(x.shape)}; expected a pixel at least, and an output of less than 2**29 a side")
    expected = (n, 2 * groups * scale * scale, h, w)
    if offset.shape != expected:
        raise ValueError(f"offset is {tuple(offset.shape)}; expected {expected} for x {tuple(x.shape)}")


def checked_output(x: Tensor, offset: Tensor, scale: int, groups: int) -> Tensor:
    """The operation on tensors without data."""
    check(x, offset, scale, groups)
    return output(x, scale)


def checked_gradients(grad: Tensor, x: Tensor, offset: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Its backward on tensors without data."""
    scale, groups, wanted = rest
    check(x, offset, scale, groups)
    return gradients(grad, x, offset, scale, wanted)
