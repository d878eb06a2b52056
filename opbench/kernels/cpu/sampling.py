"""Bilinear sampling at any positions on the CPU: `sample`, and its operations in torch's dispatcher.

Axes: x (N, H, W, C), positions (N, V, U, G*P*2), weights (N, V, U, G*P), out (N, V, U, C). x in float64, float32,
bfloat16 or float16; positions in float64 for float64 and in float32 for all others. Weights and sums are in float32 at
least. Inputs are read in place where their last axis is dense, and copied first where it isn't; results are contiguous.

DCNv3's core is the same kernels where samples lie around a moving window (`dcnv3`): its offsets are rounded relative
to the window, and take no positions' place in memory.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from opbench.errors import nearest
from opbench.kernels.cpu.sampling_call import SamplingCall
from opbench.kernels.formulas import positioned
from opbench.kernels.operation import DTYPES, check_gradient, define, differentiate, refuse_forward_mode

PADDINGS = ("zeros", "border", "border-twice")
AXES = ("x", "y")
# Height and width stay below it, so that every pixel's number is exact in float32.
LARGEST = 2**24


def sample(
    x: Tensor,
    positions: Tensor,
    weights: Tensor | None = None,
    *,
    group: int = 1,
    padding: Literal["zeros", "border", "border-twice"] = "zeros",
    first: Literal["x", "y"] = "x",
) -> Tensor:
    """x (N, H, W, C), positions (N, V, U, G*P*2), weights (N, V, U, G*P) or None -> (N, V, U, C).

    Output pixel (v, u) sums, in each of G groups of C/G channels, P bilinear samples of x: sample p of group g lies
    where pair g*P + p of `positions` says, in pixels (0 is the middle of the first pixel), and counts as much as
    weight g*P + p (1 without weights). `first` is the axis that comes first in a pair. P follows from the shapes: with
    P = 1 samples are not summed, so that P-times as many output pixels give columns for a matrix product.

    padding "zeros": outside x there are zeros; a sample counts where -1 < position < size along both axes. "border":
    positions are held within [0, size - 1]; one that is held gets no gradient along that axis, nor does one of exactly
    size - 1. "border-twice": the same, and a sample counts twice for each axis along which its position isn't in
    [0, size - 1) (LDConv). At a whole position, where bilinear sampling has a kink, the gradient is that of the cell to
    the right of and below it. A sample that doesn't count, or whose position isn't a number, contributes nothing and
    gets no gradient, whatever its weight. Differentiable in x, positions and weights, the same bits every time on any
    number of threads; nothing outside x is read.

    x and weights share a dtype; positions are float64 where x is, and float32 else. Raises TypeError and ValueError
    where they don't fit together, before any work.

    >>> import torch
    >>> x = torch.tensor([10.0, 20, 30, 40]).view(1, 1, 4, 1)
    >>> positions = torch.tensor([[0.5, 0], [-0.5, 0], [3.75, 0]]).view(1, 1, 3, 2)
    >>> sample(x, positions).flatten(), sample(x, positions, padding="border").flatten()
    (tensor([15.,  5., 10.]), tensor([15., 10., 40.]))
    """
    given = [x, positions] if weights is None else [x, positions, weights]
    refuse_forward_mode("sampling_cpu", *given)
    out: Tensor = torch.ops.opbench.sampling_cpu(x, positions, weights, group, padding, first)
    return out


def _points(x: Tensor, positions: Tensor, weights: Tensor | None, group: int, padding: str, first: str) -> int:
    """P; raises TypeError or ValueError where inputs don't fit together."""
    if x.dtype not in DTYPES:
        raise TypeError(f"x: expected float64, float32, bfloat16 or float16, got {x.dtype}")
    located = torch.promote_types(x.dtype, torch.float32)
    if positions.dtype != located:
        raise TypeError(f"positions: expected {located} for x of {x.dtype}, got {positions.dtype}")
    if padding not in PADDINGS:
        raise ValueError(nearest("padding", padding, PADDINGS))
    if first not in AXES:
        raise ValueError(nearest("first", first, AXES))
    if x.dim() != 4 or group < 1 or x.shape[3] % group:
        raise ValueError(f"x is {tuple(x.shape)}; expected (N, H, W, C) with C divisible by group {group}")
    if max(x.shape[1:3]) >= LARGEST:
        raise ValueError(f"x is {tuple(x.shape)}; its height and width must be below 2**24")
    if positions.dim() != 4 or positions.shape[0] != x.shape[0] or positions.shape[3] % (2 * group):
        raise ValueError(
            f"positions is {tuple(positions.shape)}; expected ({x.shape[0]}, V, U, {2 * group}*P), a pair for each "
            f"sample of each of {group} groups, for x {tuple(x.shape)}"
        )
    points = positions.shape[3] // (2 * group)
    if weights is not None:
        if weights.dtype != x.dtype:
            raise TypeError(f"weights: expected x's dtype {x.dtype}, got {weights.dtype}")
        expected = (*positions.shape[:3], group * points)
        if tuple(weights.shape) != expected:
            raise ValueError(f"weights is {tuple(weights.shape)}; expected {expected}, one for each pair of positions")
    return points


def _call(x: Tensor, positions: Tensor, weights: Tensor | None, group: int, padding: str, first: str) -> SamplingCall:
    points = _points(x, positions, weights, group, padding, first)
    return SamplingCall(x, positions, weights, groups=group, points=points, padding=padding, first=first)


def _out(x: Tensor, positions: Tensor, weights: Tensor | None, *parameters: Any) -> Tensor:
    _points(x, positions, weights, *parameters)
    return x.new_empty((*positions.shape[:3], x.shape[3]))


def _gradients(grad: Tensor, x: Tensor, positions: Tensor, weights: Tensor | None, *rest: Any) -> list[Tensor]:
    """Empty, contiguous gradients of x, positions and weights; one that isn't wanted has no elements."""
    *parameters, wanted = rest
    _points(x, positions, weights, *parameters)
    check_gradient(grad, x, (*positions.shape[:3], x.shape[3]))
    return [
        torch.empty(t.shape if w and t is not None else 0, dtype=like.dtype, device=like.device)
        for t, w, like in zip((x, positions, weights), wanted, (x, positions, x), strict=True)
    ]


def _forward(x: Tensor, positions: Tensor, weights: Tensor | None, *parameters: Any) -> Tensor:
    call = _call(x, positions, weights, *parameters)
    out = _out(x, positions, weights, *parameters)
    if call.empty or 0 in x.shape:
        return out.zero_()
    call.forward(out)
    return out


def _backward(
    grad: Tensor, x: Tensor, positions: Tensor, weights: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    grad_x, grad_positions, grad_weights = _gradients(grad, x, positions, weights, *rest)
    *parameters, wanted = rest
    call = _call(x, positions, weights, *parameters)
    if call.empty or 0 in x.shape:
        return grad_x.zero_(), grad_positions.zero_(), grad_weights.zero_()
    weigh = wanted[2] and weights is not None
    if wanted[1] or weigh:
        call.grad_offset_mask(grad, grad_positions if wanted[1] else None, grad_weights if weigh else None)
    if wanted[0]:
        call.grad_x(grad, grad_x)
    return grad_x, grad_positions, grad_weights


def _shapes(
    grad: Tensor, x: Tensor, positions: Tensor, weights: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    grad_x, grad_positions, grad_weights = _gradients(grad, x, positions, weights, *rest)
    return grad_x, grad_positions, grad_weights


_INPUTS = "Tensor x, Tensor positions, Tensor? weights, int group, str padding, str first"
define(f"sampling_cpu({_INPUTS}) -> Tensor", _forward, _out, apart=(1,))
define(
    f"sampling_cpu_backward(Tensor grad, {_INPUTS}, bool[3] wanted) -> (Tensor, Tensor, Tensor)",
    _backward,
    _shapes,
    apart=(2,),
)
differentiate("sampling_cpu", tensors=3, formula=positioned)
