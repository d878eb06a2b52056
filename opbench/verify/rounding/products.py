"""Operations that are sums of products: matrices, convolutions, reductions, and the sums of their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from opbench.verify.rounding.arithmetic import MANY, Spread
from opbench.verify.rounding.sums import (
    Error,
    added,
    is_layer,
    joined,
    product,
    scaled,
    settled,
    stored,
    terms,
    tracked,
)
from opbench.verify.rounding.tracked import Sum, Tracked, arithmetic, current, plain, rule

aten = torch.ops.aten
# A gradient that sums over a batch is stored in parts, image by image; two parts have the error of any number.
PARTS = 2


def bilinear(
    operation: Callable[[Tensor, Tensor], Tensor], one: Tracked, other: Tracked, count: int, layer: bool = True
) -> Tracked:
    """A sum of `count` products of an element of each: operation(one, other), linear in both."""
    (a, ea), (b, eb) = settled(one), settled(other)
    a2, b2 = a.square(), b.square()

    def through(spread: Error, operation: Callable[[Tensor], Tensor]) -> Error:
        if spread is None:
            return None
        return (spread.averaged() if count >= MANY else spread).moved(operation)

    spread = joined(through(ea, lambda part: operation(part, b2)), through(eb, lambda part: operation(a2, part)))
    parts = PARTS if current().backward else 1
    sum_ = Sum(count, operation(a2, b2), None, parts, 2 * count - 1, parts > 1, layer)
    return Tracked(operation(a, b), spread, sum_)


def _entries(matrix: Any, dim: int) -> int:
    """How many terms a row (dim -1) or column (dim -2) of a matrix gives a product: of constants, those but zero."""
    if isinstance(matrix, Tracked) or not matrix.numel():
        return int(matrix.shape[dim])
    return max(1, int((matrix != 0).sum(dim).max()))


@rule(aten.mm, aten.bmm)
def _mm(func: Any, one: Any, other: Any) -> Tracked:
    if not isinstance(one, Tracked):
        return weighed(other, lambda part, power: func(one**power, part), tracked(one, other), _entries(one, -1))
    if not isinstance(other, Tracked):
        return weighed(one, lambda part, power: func(part, other**power), tracked(other, one), _entries(other, -2))
    # One row or column a matrix is the blend of a sample's corners, which stays where sums are kept.
    layer = func is aten.mm.default or min(one.shape[-2], other.shape[-1]) > 1
    return bilinear(func, one, other, int(one.shape[-1]), layer)


@rule(aten.mv, aten.dot)
def _of_vectors(func: Any, one: Any, other: Any) -> Tracked:
    rows = one.reshape(-1, other.shape[0])
    return torch.mm(rows, other.unsqueeze(1)).reshape(one.shape[:-1])  # type: ignore[return-value]


def weighed(operand: Tracked, operation: Callable[[Tensor, int], Tensor], weights: Tracked, count: int) -> Tracked:
    """A sum with constant weights, of sums or of values: operation(part, power) weighs by that power of the weights."""
    known = terms(operand)
    spread = None if operand.spread is None else operand.spread.moved(lambda part: operation(part, 2))
    if weights.spread is not None:
        # Constants' own rounding: the same share of each term.
        share = float((weights.spread.mean / weights.value.square().clamp(min=1e-300)).amax())
        spread = Spread(operation(known.squares, 2) * share).plus(spread)
    roundings = (known.roundings + 2) * count - 1
    sum_ = Sum(known.count * count, operation(known.squares, 2), None, known.joins, roundings, known.scattered)
    return Tracked(operation(operand.value, 1), spread, sum_)


@rule(aten.addmm, aten.baddbmm)
def _addmm(func: Any, bias: Any, one: Any, other: Any, beta: float = 1, alpha: float = 1) -> Tracked:
    out = _mm(aten.mm.default if func.overloadpacket is aten.addmm else aten.bmm.default, one, other)
    bias = tracked(bias, out)
    return added(bias if beta == 1 else scaled(bias, beta), out if alpha == 1 else scaled(out, alpha))


# --- Convolutions -----------------------------------------------------------------------------------------------


@rule(aten.convolution)
def _convolution(func: Any, x: Any, weight: Any, bias: Any, *rest: Any) -> Tracked:
    like = x if isinstance(x, Tracked) else weight
    x, weight = tracked(x, like), tracked(weight, like)
    transposed, groups = rest[3], rest[5]
    reads = weight.shape[0] // groups if transposed else weight.shape[1]
    out = bilinear(lambda a, w: func(a, w, None, *rest), x, weight, reads * math.prod(weight.shape[2:]))
    if bias is None:
        return out
    bias, shape = tracked(bias, out), (-1, *[1] * (x.ndim - 2))
    settled(bias)
    return added(out, Tracked(bias.value.view(shape), bias.spread and bias.spread.moved(lambda e: e.view(shape))))


def _in_parts(operand: Tracked, parts: int) -> Tracked:
    """A sum that torch, without a library, adds up in memory tap by tap."""
    assert operand.sum_ is not None
    operand.sum_ = replace(operand.sum_, joins=parts, scattered=parts > 1)
    return operand


@rule(aten.convolution_backward)
def _convolution_backward(func: Any, grad: Any, x: Any, weight: Any, *rest: Any) -> tuple[Tracked | None, ...]:
    like = next(one for one in (grad, x, weight) if isinstance(one, Tracked))
    grad, x, weight = (tracked(one, like) for one in (grad, x, weight))
    (g, _), (a, _), (w, _) = (settled(one) for one in (grad, x, weight))
    options, (for_x, for_weight, for_bias) = rest[:-1], rest[-1]
    transposed, groups = options[4], options[6]
    outputs = w.shape[1] if transposed else w.shape[0] // groups
    pixels = g.shape[0] * math.prod((a if transposed else g).shape[2:])
    out: list[Tracked | None] = [None, None, None]
    if for_x:
        back = lambda g, w: func(g, a, w, *options, (True, False, False))[0]  # noqa: E731
        taps = math.prod(w.shape[2:])
        out[0] = _in_parts(bilinear(back, grad, weight, outputs * taps), taps)
    if for_weight:
        back = lambda g, a: func(g, a, w, *options, (False, True, False))[1]  # noqa: E731
        out[1] = bilinear(back, grad, x, pixels)
    if for_bias:
        out[2] = reduced(grad, [axis for axis in range(g.ndim) if axis != 1], False)
    return tuple(out)


# --- Reductions -------------------------------------------------------------------------------------------------


def reduced(operand: Tracked, dims: Sequence[int] | None, keepdim: bool) -> Tracked:
    """The sum over some axes, still open to more terms."""
    value = operand.value
    axes = [axis % value.ndim for axis in (dims if dims else range(value.ndim))] if value.ndim else []
    length = math.prod(value.shape[axis] for axis in axes)
    parts = 1
    if arithmetic().narrow:
        # Sums over each image are stored before those of the batch are added up.
        parts = length if is_layer(operand) and current().backward else 1
        stored(operand)
    known = terms(operand)
    out = value.sum(axes, keepdim=keepdim)
    peak = None
    if known.peak is not None and length:
        peak = torch.maximum(known.peak.amax(axes, keepdim=keepdim), out.square())
    spread = operand.spread
    if spread is not None:
        spread = (spread.averaged() if length >= MANY else spread).moved(lambda part: part.sum(axes, keepdim=keepdim))
    count = known.count * max(1, length)
    roundings = known.roundings * length + length - 1
    squares = known.squares.sum(axes, keepdim=keepdim)
    return Tracked(
        out, spread, Sum(count, squares, peak, max(parts, known.joins), roundings, parts > 1 or known.scattered)
    )


@rule(aten.sum)
def _sum(func: Any, operand: Tracked, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tracked:
    return reduced(operand, [dim] if isinstance(dim, int) else dim, keepdim)


@rule(aten.mean)
def _mean(func: Any, operand: Tracked, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tracked:
    out = reduced(operand, [dim] if isinstance(dim, int) else dim, keepdim)
    if operand.numel() > MANY * out.numel():
        current().averages += 1
    value, spread = settled(out)
    length = max(1, operand.numel() // max(1, out.numel()))
    return product(value / length, None if spread is None else spread.times(length**-2))


@rule(aten.scatter_add)
def _scatter_add(func: Any, into: Any, dim: int, index: Tensor, source: Tracked) -> Tracked:
    if arithmetic().narrow:
        settled(source)
    known, zeros = terms(source), torch.zeros_like(plain(into))

    def scattered(part: Tensor) -> Tensor:
        return func(zeros, dim, index, part)  # type: ignore[no-any-return]

    most = max(1, int(scattered(torch.ones_like(source.value)).max())) if source.value.numel() else 1
    spread = None if source.spread is None else source.spread.moved(scattered)
    roundings = most * (known.roundings + 1)
    sum_ = Sum(most * known.count, scattered(known.squares), None, most * known.joins, roundings, True)
    out = Tracked(scattered(source.value), spread, sum_)
    return out if not isinstance(into, Tracked) and not into.any() else added(tracked(into, source), out)


@rule(aten.index_add)
def _index_add(func: Any, into: Any, dim: int, index: Tensor, source: Tracked, alpha: float = 1) -> Tracked:
    source = source if alpha == 1 else scaled(source, alpha)
    if arithmetic().narrow:
        settled(source)
    known, zeros = terms(source), torch.zeros_like(plain(into))
    most = max(1, int(index.bincount().max())) if index.numel() else 1

    def gathered(part: Tensor) -> Tensor:
        return func(zeros, dim, index, part)  # type: ignore[no-any-return]

    spread = None if source.spread is None else source.spread.moved(gathered)
    sum_ = Sum(
        most * known.count,
        gathered(known.squares),
        None,
        most * known.joins,
        most * (known.roundings + 1),
        True,
    )
    out = Tracked(gathered(source.value), spread, sum_)
    return out if not isinstance(into, Tracked) and not into.any() else added(tracked(into, source), out)
