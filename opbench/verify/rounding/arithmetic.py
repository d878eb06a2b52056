"""What a right implementation may do with numbers, as the roundings that the analysis counts.

One rounding of v is off by d*v with |d| <= u, the unit roundoff. Roundings are taken as independent and uniform, of
variance u^2/3; the uniform distribution is sub-Gaussian with that very variance, so that for the error E of many
roundings, each passed on by a derivative, to first order
    P(|E| > lambda * sigma) <= 2 exp(-lambda^2 / 2),    sigma^2 = sum of (derivative * v)^2 * u^2 / 3
(Higham and Mary 2019, A new approach to probabilistic rounding error analysis, SIAM J. Sci. Comput. 41(5), theorem
2.4, has this form for roundings that are bounded instead of uniform). lambda follows from a stated chance of a false
alarm in a tensor: its elements, taken for as many tries.

A sum of n terms adds them in some order, each addition rounding a partial sum s_i. Over all orders
    mean of (sum of s_i^2) = (n/3 + 1/2 + 1/6n) * S^2 + (n+1)/6 * (Q - S^2/n),    S the sum, Q the squares' sum,
which for terms of random sign makes sigma half of u * sum|terms| whatever n is, and for terms of one sign u/3 *
sqrt(n) * sum|terms| (Higham and Mary 2020, Sharper probabilistic backward error analysis for basic linear algebra
kernels with random data, SIAM J. Sci. Comput. 42(5)). But one element has one order: its partial sums walk at random
between 0 and S, and the integral of a squared Brownian bridge has an exponential tail, exp(-pi^2 x / 2) at x times Q.
The error that such a walk makes has the tail exp(-pi t): at the chances that matter here it is that of a normal
distribution with `WALK` n Q in the place of n Q / 6. That much is the `excess` of one element; in a sum of many
elements, `MANY` of them, it averages out. Sums of few terms have no such walks: their excess is n^2/12 at most.

So an implementation may, within the bound: add in any order, in lanes, blocks, pairs or one chain; use FMA or not;
compute a bias, a norm and an activation apart or fused; take functions from a library that is right to two units in
the last place; keep half types' sums, sampling locations and products in float32; and, where torch differentiates a
convolution without a library, add up the taps of a gradient in memory of the half type. What it may not: compute
float32 through a narrower type, form a sampling location in half, add up a half type's forward sums in half. TF32 is
off while opbench measures, and Winograd's own error growth (of its transforms, a few times) isn't granted: no library
that was tried here uses it, and a GPU's is not measured yet.

Measured, a chain's mean square is 0.54 of this one: an error is at most u of the power of two below the value, not of
the value. `tests/bounds/sweep.py` tries all of it on right implementations, by instruction set and with oneDNN off.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from opbench.schema import DType
from opbench.verify.bounds import EPS

# How far a value near zero may be off: flushed to zero below the normal range, or for float16 by a step there. Of
# float64 the smallest whose error's square float64 can hold.
FLOOR = {"float64": 2.0**-480, "float32": 2.0**-126, "bfloat16": 2.0**-126, "float16": 2.0**-24}

LARGEST = {"float64": 2.0**1023, "float32": 2.0**127, "bfloat16": 2.0**127, "float16": 65504.0}

# Terms from which one element's tail averages out in a sum.
MANY = 25
WALK = 1.5


class Spread(NamedTuple):
    """The variance of an error, and the `excess` over it that one element's tail may have."""

    mean: Tensor
    excess: Tensor | None = None

    def times(self, factor: Tensor | float) -> Spread:
        """Of the error times a number whose square is `factor`."""
        return Spread(self.mean * factor, None if self.excess is None else self.excess * factor)

    def moved(self, operation: Callable[[Tensor], Tensor]) -> Spread:
        """Of the error after the same rearrangement that its tensor went through."""
        return Spread(operation(self.mean), None if self.excess is None else operation(self.excess))

    def plus(self, other: Spread | None) -> Spread:
        """Of the sum of independent errors."""
        if other is None:
            return self
        excess = other.excess if self.excess is None else self.excess
        if self.excess is not None and other.excess is not None:
            excess = self.excess + other.excess
        return Spread(self.mean + other.mean, excess)

    def averaged(self) -> Spread:
        """Of one term of a sum of many, where tails average out."""
        return Spread(self.mean)

    @property
    def whole(self) -> Tensor:
        """The variance whose normal distribution has the tail."""
        return self.mean if self.excess is None else self.mean + self.excess


@dataclass(frozen=True)
class Arithmetic:
    """Unit roundoffs of a contender's dtype: of what it stores between operations, and of what it adds up in.

    Half types store in half and add up in float32, sampling locations included.
    """

    stored: float
    summed: float
    floor: float
    largest: float

    @classmethod
    def of(cls, dtype: DType) -> Arithmetic:
        """That of a dtype's own units."""
        summed = min(EPS[dtype], EPS["float32"]) / 2
        return cls(EPS[dtype] / 2, summed, FLOOR[dtype], LARGEST[dtype])

    @property
    def narrow(self) -> bool:
        """Whether storing loses digits that the sum had."""
        return self.stored > self.summed

    def storing(self, square: Tensor, roundings: float = 1.0) -> Spread:
        """Of roundings to the stored type of values with these squares."""
        return Spread(square * (self.stored**2 / 3 * roundings) + self.floor**2)

    def summing(self, count: int, square: Tensor, squares: Tensor) -> Spread:
        """Of a sum of `count` terms, `square` its S^2 and `squares` its Q."""
        spread = _chain(count, square, squares, self.summed)
        return Spread(spread.mean + count * self.floor**2, spread.excess)

    def scattering(self, count: int, square: Tensor, squares: Tensor) -> Spread:
        """Of a sum that is kept in the stored type."""
        return _chain(count, square, squares, self.stored)


def _chain(count: int, square: Tensor, squares: Tensor, unit: float) -> Spread:
    """The partial sums' squares, averaged over all orders, and what the worst of very many orders adds to that."""
    ends = count / 3 + 1 / 2 + 1 / (6 * count) - (count + 1) / (6 * count)
    mean = (square * ends + squares * ((count + 1) / 6)) * (unit**2 / 3)
    return Spread(mean, squares * (min(count * count / 12, WALK * count) * unit**2 / 3))


def chance_factor(elements: int, alarm: float) -> float:
    """The lambda for which none of `elements` errors is beyond lambda * sigma, but for a chance of `alarm`."""
    return math.sqrt(2 * math.log(2 * max(1, elements) / alarm))
