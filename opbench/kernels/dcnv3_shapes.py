"""Shapes of DCNv3's core, the same for every kernel of it.

Axes: x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask and logits (N, Ho, Wo, G*P), out (N, Ho, Wo, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from opbench.kernels.operation import DTYPES, check_gradient, empty_gradients

# Padded sizes stay so far below 2**31 that a window's place plus a displacement of 2**29 does, too.
LARGEST = 2**29


def check(
    x: Tensor, offset: Tensor, mask: Tensor,
    size: int, stride: int, pad: int, dilation: int, groups: int, offset_scale: float, remove_center: bool,
) -> tuple[int, int, int]:  # fmt: skip
    """Sampling points, output height and width; raises TypeError or ValueError where inputs don't fit together."""
    if x.dtype not in DTYPES or not x.dtype == offset.dtype == mask.dtype:
        raise TypeError(
            f"x is {x.dtype}, offset {offset.dtype}, mask {mask.dtype}; expected one floating dtype for all"
        )
    if size < 1 or stride < 1 or dilation < 1 or groups < 1 or pad < 0 or (remove_center and size % 2 == 0):
        raise ValueError(
            f"kernel_size {size}, stride {stride}, pad {pad}, dilation {dilation}, group {groups}, remove_center "
            f"{remove_center}: expected pad >= 0, the others >= 1, and an odd kernel_size with remove_center"
        )
    if x.dim() != 4 or x.shape[3] % groups:
        raise ValueError(f"x is {tuple(x.shape)}; expected (N, H, W, C) with C divisible by group {groups}")
    n, h, w, _ = x.shape
    points = size * size - int(remove_center)
    reach = dilation * (size - 1) + 1
    if max(h, w) + 2 * pad + reach >= LARGEST:
        raise ValueError(f"x is {tuple(x.shape)}; its padded height and width must be below 2**29")
    out_h, out_w = ((v + 2 * pad - reach) // stride + 1 for v in (h, w))
    if out_h < 1 or out_w < 1:
        raise ValueError(f"x is {tuple(x.shape)}; its padded height and width must be at least {reach}")
    for name, t, channels in (("offset", offset, groups * points * 2), ("mask", mask, groups * points)):
        if t.shape != (n, out_h, out_w, channels):
            raise ValueError(
                f"{name} is {tuple(t.shape)}; expected {(n, out_h, out_w, channels)} for x {tuple(x.shape)}"
            )
    return points, out_h, out_w


def gradients(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Empty, contiguous gradients of x, offset and mask (or logits); one that isn't wanted has no elements."""
    check_gradient(grad, x, (*offset.shape[:3], x.shape[3]))
    grad_x, grad_offset, grad_mask = empty_gradients((x, offset, mask), wanted)
    return grad_x, grad_offset, grad_mask


def checked_output(x: Tensor, offset: Tensor, mask: Tensor, *parameters: Any) -> Tensor:
    """The operation on tensors without data."""
    _, out_h, out_w = check(x, offset, mask, *parameters)
    return x.new_empty((x.shape[0], out_h, out_w, x.shape[3]))


def checked_gradients(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Its backward on tensors without data."""
    *parameters, wanted = rest
    check(x, offset, mask, *parameters)
    return gradients(grad, x, offset, mask, wanted)
