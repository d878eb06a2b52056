"""Sums and products of elements, and how a sum that is done with is rounded.

A tree of additions is one sum of all its terms until something else reads it: an implementation may add the taps of a
convolution up in any order, or all in one chain, however the definition writes it down.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from opbench.verify.rounding.arithmetic import MANY, Arithmetic, Spread
from opbench.verify.rounding.tracked import Sum, Tracked, Unanalysed, arithmetic, current, plain, rule

aten = torch.ops.aten
Error = Spread | None
# Terms from which a sum is the result of a layer, whatever it was written as.
LAYER = 9
# Over all orders the partial sums' squares differ this much from their mean.
FEW = 2.2


def made(value: Tensor, spread: Error, sum_: Sum | None = None) -> Tracked:
    """A tracked tensor whose parts are as large as its value, whatever they were broadcast from."""

    def whole(part: Tensor | None) -> Tensor | None:
        return None if part is None else part.expand(value.shape)

    if sum_ is not None:
        sum_ = replace(sum_, squares=sum_.squares.expand(value.shape), peak=whole(sum_.peak))
    return Tracked(value, None if spread is None else spread.moved(lambda part: part.expand(value.shape)), sum_)


def tracked(value: Any, like: Tracked) -> Tracked:
    """A tensor or number as an operand: constants are rounded to the dtype that sums are kept in, unless they fit."""
    if isinstance(value, Tracked):
        return value
    if not isinstance(value, Tensor):
        return Tracked(torch.tensor(float(value), dtype=torch.float64, device=like.device))
    if not value.is_floating_point():
        return Tracked(value.double())
    held = arithmetic()
    if held.summed == 2.0**-53 or torch.equal(value.float().double(), value):
        return Tracked(value)
    # The literal's own rounding, and one of the formula that computed it.
    return Tracked(value, Spread(value.square() * (2 * held.summed**2 / 3)))


def settled(operand: Tracked) -> tuple[Tensor, Error]:
    """An operand's value and error, all its roundings done."""
    if operand.whole and current().generator is not None:
        # Cells' numbers are added up exactly.
        operand.spread = operand.sum_ = None
    if operand.sum_ is not None:
        held, sum_ = arithmetic(), operand.sum_
        _hold(held, operand.value)
        square = operand.value.square() if sum_.peak is None else sum_.peak
        spread = _added_up(held, operand, square)
        if not held.narrow and sum_.count == 1:
            spread = held.storing(square).plus(spread)
        # A half type's products may stay in float32; drawn, all are stored, as a layer does with its results.
        elif held.narrow and (sum_.count > 1 or current().generator is not None):
            spread = held.storing(operand.value.square()).plus(spread)
        operand.spread, operand.sum_ = spread, None
    if operand.spread is not None and (generator := current().generator) is not None:
        _draw(operand, operand.spread, generator)
    return operand.value, operand.spread


def _draw(operand: Tracked, spread: Spread, generator: torch.Generator) -> None:
    """Makes an operand off by an error of its spread, uniform as a rounding is, and exact from there on."""
    operand.value = operand.value + noise(operand.value, generator) * spread.mean.sqrt()
    operand.spread = None


# Uniform numbers of variance 1, of which each tensor takes a stretch that begins at random: drawing is dearer than most
# operations.
_POOL = 1 << 20


def noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Independent numbers of variance 1, of a tensor's shape."""
    if like.numel() * 8 > _POOL:
        draw = torch.rand(like.shape, generator=generator, dtype=torch.float32, device=like.device).double()
        return (draw - 0.5) * 12**0.5
    pool = _pool(like.device)
    first = int(torch.randint(_POOL - like.numel(), (), generator=generator, device=like.device))
    return pool[first : first + like.numel()].view(like.shape)


@functools.lru_cache(maxsize=2)
def _pool(device: torch.device) -> Tensor:
    generator = torch.Generator(device).manual_seed(0)
    return (torch.rand(_POOL, generator=generator, dtype=torch.float64, device=device) - 0.5) * 12**0.5


def drawn(operand: Tracked) -> None:
    """Settles an operand before its elements are copied, where roundings are drawn: the copies have one error."""
    if current().generator is not None:
        settled(operand)


def _hold(held: Arithmetic, value: Tensor) -> None:
    """Raises Unanalysed for a value that the stored type can't hold, or that another order or rounding may overflow."""
    if value.numel() and (largest := float(value.abs().amax())) > held.largest / 2:
        raise Unanalysed(f"an intermediate of {largest:.3g} overflows the dtype")


def stored(operand: Tracked) -> None:
    """Settles an operand as a layer's result, which is written to memory: a single product too."""
    single = operand.sum_ is not None and operand.sum_.count == 1 and arithmetic().narrow
    single = single and current().generator is None
    value, spread = settled(operand)
    if single:
        operand.spread = arithmetic().storing(value.square()).plus(spread)


def written(operand: Tracked) -> None:
    """Stores what `fused` computed."""
    value, spread = settled(operand)
    operand.spread = arithmetic().storing(value.square()).plus(spread)
    settled(operand)


def finished(result: Tracked, factor: float) -> Tensor:
    """`factor` standard deviations of a result short of its last rounding to the stored type, which is bounded alone.

    A sum of a few exact terms is off by sqrt(m sum of s_i^2) u at most, m its roundings (Cauchy and Schwarz).
    """
    held, sum_, spread = arithmetic(), result.sum_, result.spread
    if sum_ is not None:
        spread = _added_up(held, result, result.value.square() if sum_.peak is None else sum_.peak)
    if spread is None:
        return torch.zeros_like(result.value)
    most = 1.0
    if result.spread is None and sum_ is not None:
        # Few roundings of exact terms: no error is larger than all of them together.
        most = min(1.0, FEW * 3 * sum_.roundings / factor**2)
    deviation: Tensor = spread.whole.sqrt() * (factor * most**0.5)
    return deviation


def _added_up(held: Arithmetic, operand: Tracked, square: Tensor) -> Error:
    """The error of a sum's terms, and of adding them up."""
    sum_, spread = operand.sum_, operand.spread
    assert sum_ is not None
    if sum_.count == 1:
        return spread
    if spread is not None and sum_.count >= MANY:
        spread = spread.averaged()
    if held.narrow and sum_.scattered:
        spread = held.scattering(sum_.joins, square, sum_.squares).plus(spread)
    return held.summing(sum_.count, square, sum_.squares).plus(spread)


def joined(one: Error, other: Error) -> Error:
    """The error of a sum of independent errors."""
    return other if one is None else one.plus(other)


def passed(first: Error, factor: Tensor, second: Error, other: Tensor) -> Error:
    """Two errors passed on by derivatives whose squares are given."""
    return joined(None if first is None else first.times(factor), None if second is None else second.times(other))


def terms(operand: Tracked) -> Sum:
    """What an operand brings to a sum: its own terms, or itself."""
    return operand.sum_ or Sum(1, operand.value.square(), roundings=0)


def product(value: Tensor, spread: Error) -> Tracked:
    """One product: a sum of one term."""
    return made(value, spread, Sum(1, value.square()))


def _power_of_two(factor: Any) -> bool:
    return isinstance(factor, int | float) and (factor == 0 or abs(math.frexp(factor)[0]) == 0.5)


def scaled(operand: Tracked, factor: float) -> Tracked:
    """factor * operand, without a rounding of its own."""
    square = factor * factor
    spread = None if operand.spread is None else operand.spread.times(square)
    sum_ = operand.sum_
    if sum_ is not None:
        sum_ = replace(sum_, squares=sum_.squares * square, peak=None if sum_.peak is None else sum_.peak * square)
    return Tracked(operand.value * factor, spread, sum_)


def is_layer(operand: Tracked) -> bool:
    """Whether it is a layer's result, which a half type stores before anything is added to it.

    A long sum is one, and a product of matrices however short: an offset may be predicted from three channels.
    """
    sum_ = operand.sum_
    if sum_ is None:
        return False
    return (sum_.joins <= 2 and sum_.count >= LAYER) or (sum_.joins == 1 and sum_.layer)


def added(one: Tracked, other: Tracked) -> Tracked:
    """one + other as one sum of the terms of both."""
    layer = any(operand.sum_ is not None and operand.sum_.layer for operand in (one, other))
    if arithmetic().narrow:
        for operand in (one, other):
            if is_layer(operand):
                stored(operand)
    value = one.value + other.value
    ours, theirs = terms(one), terms(other)
    peak = torch.maximum(one.value.square() if ours.peak is None else ours.peak, value.square())
    peak = torch.maximum(peak, other.value.square() if theirs.peak is None else theirs.peak)
    sum_ = Sum(
        ours.count + theirs.count,
        ours.squares + theirs.squares,
        peak,
        ours.joins + theirs.joins,
        ours.roundings + theirs.roundings + 1,
        # Where torch differentiates a convolution by itself it adds the taps up in memory.
        ours.scattered or theirs.scattered or current().backward,
        layer,
    )
    return made(value, joined(one.spread, other.spread), sum_)


def _moves(constant: Any) -> bool:
    """Whether adding it is more than a sum's beginning: zeros are what the first term is added to."""
    return bool(constant.any()) if isinstance(constant, Tensor) else constant != 0


@rule(aten.add, aten.sub, aten.rsub)
def _add(func: Any, one: Any, other: Any, alpha: float = 1) -> Tracked:
    like = one if isinstance(one, Tracked) else other
    constant = not (isinstance(one, Tracked) and isinstance(other, Tracked))
    long = like.sum_ is not None and (like.sum_.layer or like.sum_.count >= LAYER)
    if constant and long and _moves(other if one is like else one):
        # A layer's result moved by a constant, as a coordinate is, is added up before.
        stored(like)
    one, other = tracked(one, like), tracked(other, like)
    if alpha != 1:
        other = scaled(other, alpha) if _power_of_two(alpha) else multiplied(other, tracked(alpha, like))
    if func.overloadpacket is aten.rsub:
        one, other = other, one
    out = added(one, other if func.overloadpacket is aten.add else scaled(other, -1))
    out.whole = one.whole and other.spread is None and other.sum_ is None
    return out


def multiplied(one: Tracked, other: Tracked) -> Tracked:
    """one * other."""
    (a, ea), (b, eb) = settled(one), settled(other)
    return product(a * b, passed(ea, b.square(), eb, a.square()))


@rule(aten.mul)
def _mul(func: Any, one: Any, other: Any) -> Tracked:
    for factor, operand in ((one, other), (other, one)):
        if _power_of_two(factor):
            return scaled(operand, factor)
    like = one if isinstance(one, Tracked) else other
    return multiplied(tracked(one, like), tracked(other, like))


@rule(aten.neg)
def _neg(func: Any, operand: Tracked) -> Tracked:
    return scaled(operand, -1)


@rule(aten.div)
def _div(func: Any, one: Any, other: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode is not None:
        return func(plain(one), plain(other), rounding_mode=rounding_mode)
    if _power_of_two(other) and other:
        return scaled(one, 1 / other)
    like = one if isinstance(one, Tracked) else other
    (a, ea), (b, eb) = settled(tracked(one, like)), settled(tracked(other, like))
    value, slope = a / b, b.square().reciprocal()
    return product(value, passed(ea, slope, eb, value.square() * slope))
