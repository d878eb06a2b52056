"""CARAFE's reassembly through torch.compile: forward and both gradients are one contraction over strided windows.

Each is sum(a * b) over some axes, where one factor is a window view of a zero-bordered array and nothing is expanded
in memory. The compiler fuses the product into the sum and vectorises over channels, so it all runs channels-last;
results come back in the memory format of x.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from opbench.kernels.formulas import outside, reassembled
from opbench.kernels.twice import asked_again, first_derivative
from opbench.operators.common.compiling import compiled_apart


def compiled(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """`x` (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W).

    Each kind of call (shapes, layouts, dtype, device) is compiled on its first use, which takes seconds. float16 and
    bfloat16 accumulate in float32. Saves x and mask for backward, and nothing else.
    """
    out: Tensor = _Compiled.apply(x, mask, kernel_size, group_size, scale_factor)  # type: ignore[no-untyped-call]
    return out


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, k: int, g: int, s: int) -> Tensor:
        ctx.save_for_backward(x, mask)
        ctx.settings = k, g, s
        return _forward(x, mask, k, g, s)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mask = ctx.saved_tensors
        if asked_again():
            wanted = ctx.needs_input_grad[:2]
            again = first_derivative(lambda x, mask: reassembled(x, mask, *ctx.settings), grad, (x, mask), wanted)
            return *again, None, None, None
        grad_x = _backward_x(grad, x, mask, *ctx.settings) if ctx.needs_input_grad[0] else None
        grad_mask = _backward_mask(grad, x, mask, *ctx.settings) if ctx.needs_input_grad[1] else None
        return grad_x, grad_mask, None, None, None


# Axes below: n batch, h w parent pixel, a b child (Y = s*h + a, X = s*w + b), g group, d channel of the group,
# i j tap of the window.


def _forward(x: Tensor, mask: Tensor, k: int, g: int, s: int) -> Tensor:
    """out[n,h,a,w,b,g,d] = sum over i, j of x[n, h+i-r, w+j-r, g, d] * mask[n,h,a,w,b,g,i,j]."""
    _, _, H, W = x.shape
    windows = _x_windows(x, k, g)
    weights = _children(mask, s, (g, k, k)).masked_fill(_outside(H, W, k, x.device), 0)
    return _like(contract(windows, weights.unsqueeze(6), [7, 8]).flatten(5), x)


def _backward_x(grad: Tensor, x: Tensor, mask: Tensor, k: int, g: int, s: int) -> Tensor:
    """grad_x[n,h,w,g,d] = sum over a, b, i, j of grad[n, h-i+r, a, w-j+r, b, g, d] * mask[same pixel, g, i, j]."""
    grads = _windows(_bordered(_children(grad, s, (g, -1)), (1, 3), k), (1, 3), k)
    # Counting taps backwards (i' = k-1-i) turns h-i+r into h+i'-r, a window like any other; of each window over the
    # mask only the tap that points back at (h, w) is wanted: the diagonal of window offset and tap.
    weights = _windows(_bordered(_children(mask, s, (g, k, k)).flip((6, 7)), (1, 3), k), (1, 3), k)
    weights = weights.diagonal(dim1=6, dim2=8).diagonal(dim1=6, dim2=7)
    total = contract(grads, weights.unsqueeze(6), [2, 4, 7, 8])
    return _like(total.unsqueeze(3).unsqueeze(2).flatten(5), x)


def _backward_mask(grad: Tensor, x: Tensor, mask: Tensor, k: int, g: int, s: int) -> Tensor:
    """grad_mask[n,h,a,w,b,g,i,j] = sum over d of grad[n,h,a,w,b,g,d] * x[n, h+i-r, w+j-r, g, d]."""
    _, _, H, W = x.shape
    grads = _children(grad, s, (g, -1)).unsqueeze(7).unsqueeze(8)
    total = contract(grads, _x_windows(x, k, g), [6])
    return _like(total.masked_fill(_outside(H, W, k, x.device), 0).flatten(5), mask)


# The schema is spelled out: torch 2.6 infers none from `list[int]`.
@torch.library.custom_op("opbench::contract", mutates_args=(), schema="(Tensor a, Tensor b, SymInt[] axes) -> Tensor")
def contract(a: Tensor, b: Tensor, axes: list[int]) -> Tensor:
    """sum(a * b) over `axes`, without their product in memory.

    A registered operation, so that whoever watches torch's dispatcher (memory trackers, fake tensors) sees one
    allocation and one call, where compiled code would be skipped or entered.
    """
    if a.numel() == 0 or b.numel() == 0:
        return torch.zeros_like(contract_shape(a, b, axes))
    kind = (a.shape, a.stride(), b.shape, b.stride(), a.dtype, a.device, tuple(axes))
    out: Tensor = _compiled_contraction(kind)(a, b, axes)
    return out


@contract.register_fake
def contract_shape(a: Tensor, b: Tensor, axes: list[int]) -> Tensor:
    """An output of the right shape."""
    shape = torch.broadcast_shapes(a.shape, b.shape)
    return a.new_empty([size for axis, size in enumerate(shape) if axis not in axes])


@functools.cache
def _compiled_contraction(kind: tuple[Any, ...]) -> Callable[..., Any]:
    return compiled_apart(_contraction)


def _contraction(a: Tensor, b: Tensor, axes: list[int]) -> Tensor:
    return (a * b).sum(axes)


def _children(full: Tensor, s: int, channels: tuple[int, ...]) -> Tensor:
    """(N, channels, s*H, s*W) -> (N, H, s, W, s, *channels), channels last in memory."""
    last = full.permute(0, 2, 3, 1).contiguous()
    children: Tensor = last.unflatten(3, channels).unflatten(2, (-1, s)).unflatten(1, (-1, s))
    return children


def _like(children: Tensor, like: Tensor) -> Tensor:
    """(N, H, s, W, s, C) -> (N, C, s*H, s*W) in the memory format of `like`."""
    last = children.flatten(3, 4).flatten(1, 2)
    out = last.permute(0, 3, 1, 2)
    if not like.is_contiguous():
        return out
    result = torch.empty_like(out, memory_format=torch.contiguous_format)
    for target, image in zip(result, last, strict=True):
        # As plain matrices: torch transposes those in blocks, four times as fast as a permuted image.
        target.flatten(1).copy_(image.flatten(0, 1).t())
    return result


def _x_windows(x: Tensor, k: int, g: int) -> Tensor:
    """`x` (N, C, H, W) -> (N, H, 1, W, 1, g, D, k, k), the zero-extended window of every parent pixel; a view."""
    bordered = _bordered(x.permute(0, 2, 3, 1).unflatten(3, (g, -1)), (1, 2), k)
    return _windows(bordered, (1, 2), k).unsqueeze(3).unsqueeze(2)


def _bordered(x: Tensor, axes: tuple[int, int], k: int) -> Tensor:
    """k//2 zeros before and after each of two axes; contiguous."""
    shape = [size + (k - 1) * (axis in axes) for axis, size in enumerate(x.shape)]
    out = x.new_zeros(shape)
    inner = out
    for axis in axes:
        inner = inner.narrow(axis, k // 2, x.shape[axis])
    inner.copy_(x)
    return out


def _windows(x: Tensor, axes: tuple[int, int], k: int) -> Tensor:
    """A view with two more axes, the offset within a window of k along each of `axes`."""
    return x.unfold(axes[0], k, 1).unfold(axes[1], k, 1)


def _outside(H: int, W: int, k: int, device: torch.device) -> Tensor:
    """(H, 1, W, 1, 1, k, k) booleans: does this tap of this parent pixel fall outside the image?"""
    rows = outside(H, k, device).view(H, 1, 1, 1, 1, k, 1)
    return rows | outside(W, k, device).view(1, 1, W, 1, 1, 1, k)
