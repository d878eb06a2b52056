"""Functions of single elements, by their derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from opbench.verify.rounding.arithmetic import Spread
from opbench.verify.rounding.kinks import JUMPS, Uncertain
from opbench.verify.rounding.moves import chosen
from opbench.verify.rounding.sums import drawn, joined, made, multiplied, settled, tracked
from opbench.verify.rounding.tracked import Tracked, Unanalysed, arithmetic, current, plain, rule

aten = torch.ops.aten

# Libraries compute these to within two units in the last place, not half of one.
_LIBRARY = 4.0


# An error beyond this is no small one: the slope at the point says little of the function around it.
SMALL = 1e-4


def applied(
    operand: Tracked, function: Callable[[Tensor], Tensor], slope: Callable[[Tensor, Tensor], Tensor], roundings: float
) -> Tracked:
    """function(operand), given its derivative from argument and value, and how many roundings' variance it adds.

    A large error is passed on by the steeper of the function's chords to four deviations on either side: a saturated
    sigmoid is flat at the point, and not beyond it.
    """
    x, spread = settled(operand)
    value = function(x)
    own = arithmetic().storing(value.square(), roundings) if roundings else None
    if spread is None or not spread.mean.numel():
        return made(value, own)
    steep = slope(x, value).square()
    if spread.mean.amax() > SMALL**2:
        width = 4 * spread.mean.sqrt() + SMALL
        rise = torch.maximum((function(x + width) - value).abs(), (function(x - width) - value).abs())
        steep = torch.maximum(steep, (rise / width).square().nan_to_num(nan=0.0, posinf=0.0))
    return made(value, spread.times(steep).plus(own))


def _normal(x: Tensor) -> Tensor:
    return torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)


# The derivative from the argument x and the value y, and the roundings.
Slope = Callable[[Tensor, Tensor], Tensor]
_SLOPES: dict[Any, tuple[Slope, float]] = {
    aten.exp: (lambda x, y: y, _LIBRARY),
    aten.exp2: (lambda x, y: y * math.log(2), _LIBRARY),
    aten.log: (lambda x, y: 1 / x, _LIBRARY),
    aten.log1p: (lambda x, y: 1 / (1 + x), _LIBRARY),
    aten.sqrt: (lambda x, y: 0.5 / y, 1.0),
    aten.rsqrt: (lambda x, y: -0.5 * y / x, 2.0),
    aten.reciprocal: (lambda x, y: -y.square(), 1.0),
    aten.sigmoid: (lambda x, y: y * (1 - y), _LIBRARY),
    aten.tanh: (lambda x, y: 1 - y.square(), _LIBRARY),
    aten.erf: (lambda x, y: 2 / math.sqrt(math.pi) * torch.exp(-x.square()), _LIBRARY),
    aten.sin: (lambda x, y: torch.cos(x), _LIBRARY),
    aten.cos: (lambda x, y: -torch.sin(x), _LIBRARY),
    aten.silu: (lambda x, y: torch.sigmoid(x) * (1 + x - y), _LIBRARY),
    aten.softplus: (lambda x, y: torch.sigmoid(x), _LIBRARY),
    aten.relu: (lambda x, y: (x > 0).to(x), 0.0),
    aten.abs: (lambda x, y: torch.sign(x), 0.0),
    aten.leaky_relu: (lambda x, y: torch.where(x > 0, 1.0, y / torch.where(x == 0, 1.0, x)), 1.0),
    aten.hardtanh: (lambda x, y: (x == y).to(x), 0.0),
    aten.clamp: (lambda x, y: (x == y).to(x), 0.0),
    aten.clamp_min: (lambda x, y: (x == y).to(x), 0.0),
    aten.clamp_max: (lambda x, y: (x == y).to(x), 0.0),
}


@rule(*_SLOPES)
def _function(func: Any, operand: Tracked, *rest: Any, **options: Any) -> Tracked:
    slope, roundings = _SLOPES[func.overloadpacket]
    arguments = [plain(one) for one in rest]
    return applied(operand, lambda x: func(x, *arguments, **options), slope, roundings)


@rule(aten.gelu)
def _gelu(func: Any, operand: Tracked, approximate: str = "none") -> Tracked:
    return applied(operand, lambda x: func(x, approximate=approximate), lambda x, _: gelu_slope(x), _LIBRARY)


def gelu_slope(x: Tensor) -> Tensor:
    """The derivative of x times the normal distribution function."""
    return 0.5 * (1 + torch.erf(x / math.sqrt(2))) + x * _normal(x)


@rule(aten.pow)
def _pow(func: Any, operand: Any, exponent: Any) -> Tracked:
    if not isinstance(operand, Tracked) or isinstance(exponent, Tensor):
        raise Unanalysed(f"{func} with a tensor for its exponent")
    # Small whole powers are products.
    own = exponent - 1 if exponent in (2, 3, 4) else _LIBRARY
    return applied(operand, lambda x: x**exponent, lambda x, _: exponent * x ** (exponent - 1), own)


# How far a coordinate may be rounded beside its own formula, in eps of the largest one (standard deviation): adding it
# up and normalising it to [-1, 1] and back takes a few roundings of the image's size, in float32 at least.
COORDINATE = 0.45


@rule(aten.floor)
def _floor(func: Any, operand: Tracked) -> Tracked:
    """The cell of a coordinate: exact, but the coordinate is as uncertain as that. Which cell is for `kinks` to say."""
    place = _of_coordinates(operand)
    if current().generator is not None:
        # What falls into a cell is the coordinate as it was rounded.
        operand.spread = place.plus(operand.spread)
        out = Tracked(func(settled(operand)[0]))
    else:
        _noted(operand, func, place)
        out = made(func(operand.value), place)
    out.whole = True
    return out


def _of_coordinates(operand: Tracked) -> Spread:
    """How far coordinates may be rounded beside their own formula."""
    x = operand.value
    largest = x.abs().amax().clamp(min=1) if x.numel() else x.new_ones(())
    return Spread((COORDINATE * 2 * arithmetic().summed * largest).square())


def _noted(operand: Tracked, decide: Callable[[Tensor], Tensor], place: Spread | None = None) -> None:
    """Notes which elements of an operand may fall on either side of what `decide` tells apart."""
    x, spread, known = operand.value, joined(place, operand.spread), operand.sum_
    if known is not None:
        peak = x.square() if known.peak is None else known.peak
        spread = arithmetic().summing(known.count, peak, known.squares).plus(spread)
    if operand.whole or spread is None:
        current().located.append(Uncertain.none(x))
        return
    typical = spread.mean.sqrt().expand_as(x) if decide is aten.floor.default else None
    current().located.append(Uncertain.among(decide, x, spread.whole.sqrt(), typical))


@rule(aten.gt, aten.ge, aten.lt, aten.le)
def _compared(func: Any, one: Any, other: Any) -> Any:
    """A comparison with a number decides; one of two tensors follows from them."""
    for operand in (one, other):
        if isinstance(operand, Tracked):
            drawn(operand)
    if isinstance(one, Tracked) and func in JUMPS and current().generator is None:
        _noted(one, lambda x: func(x, other), _of_coordinates(one))
    return func(plain(one), plain(other))


@rule(aten.sgn, aten.sign)
def _sign(func: Any, operand: Tracked) -> Tensor:
    """Which side of zero: as an absolute value's derivative is."""
    drawn(operand)
    if current().generator is None:
        _noted(operand, func)
    return func(operand.value)  # type: ignore[no-any-return]


@rule(aten.threshold_backward, aten.leaky_relu_backward, aten.hardtanh_backward)
def _rectifier_backward(func: Any, grad: Any, operand: Any, *rest: Any) -> Tracked:
    """The gradient times the slope of the piece that an element lies on."""
    if isinstance(operand, Tracked):
        drawn(operand)
        if current().generator is None:
            _noted(operand, lambda x: func(torch.ones_like(x), x, *rest))
    elif current().generator is None:
        current().located.append(Uncertain.none(operand))
    slope = func(torch.ones_like(plain(operand)), plain(operand), *rest)
    if not isinstance(grad, Tracked):
        return Tracked(grad * slope)
    if bool(((slope == 0) | (slope == 1)).all()):
        return chosen(slope == 1, grad, Tracked(torch.zeros_like(slope)))
    return multiplied(grad, Tracked(slope))


@rule(aten.maximum, aten.minimum)
def _maximum(func: Any, one: Any, other: Any) -> Tracked:
    like = one if isinstance(one, Tracked) else other
    a, b = tracked(one, like), tracked(other, like)
    settled(a), settled(b)
    larger = a.value > b.value if func.overloadpacket is aten.maximum else a.value < b.value
    return chosen(larger, a, b)


@rule(
    aten.eq, aten.ne, aten.isnan, aten.isfinite, aten.isinf, aten.round,
    aten.trunc, aten.argmax, aten.argmin, aten.argsort, aten.any, aten.all, aten._local_scalar_dense, aten.item,
    aten.is_nonzero, aten.floor_divide, aten.ceil, aten.equal, aten.logical_not, aten.nonzero,
)  # fmt: skip
def _decided(func: Any, *given: Any, **options: Any) -> Any:
    """What is decided by values, or jumps between whole numbers: no error of its own."""
    return func(*(plain(one) for one in given), **options)


@rule(aten.amax, aten.amin)
def _largest(func: Any, operand: Tracked, *rest: Any) -> Tracked:
    """Its error is that of the element it picks; where it only shifts a softmax it cancels."""
    return made(func(operand.value, *rest), None)
