"""What a right implementation may do with numbers, as the roundings that the analysis counts.

One rounding of v is off by d*v with |d| <= u, the unit roundoff. Roundings are taken as independent and uniform, of
variance u^2/3; the uniform distribution is sub-Gaussian with that very variance, so that for the sum E of many
roundings, each passed on by a derivative,
    P(|E| > lambda * sigma) <= 2 exp(-lambda^2 / 2),    sigma^2 = sum of (derivative * v)^2 * u^2 / 3
(Hoeffding 1963; Higham and Mary 2019, A new approach to probabilistic rounding error analysis, SIAM J. Sci. Comput.
41(5), theorem 2.4, has the same form with u for u/sqrt(3): roundings bounded, not uniform). First order in u.

A sum of n terms is a chain of n - 1 additions in some order; each rounds the partial sum s_i, so sigma^2 is the sum of
s_i^2 u^2 / 3. An implementation may choose the order. Averaged over all orders
    sum of s_i^2 = n/3 * S^2 + n/6 * Q,    S the sum, Q the sum of the squared terms
(sampling without replacement: E s_i^2 = (i/n)^2 S^2 + i (n - i) / (n (n - 1)) * (Q - S^2 / n)). That is for terms of
random sign about half of u * sum|terms|, whatever n is (Higham and Mary 2020, Sharper probabilistic backward error
analysis for basic linear algebra kernels with random data, SIAM J. Sci. Comput. 42(5)), and for terms of one sign
u/3 * sqrt(n) * sum|terms|. Sums in blocks or lanes, pairwise or with FMA are shorter chains: below it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from opbench.schema import DType
from opbench.verify.bounds import EPS

# How far a value near zero may be off: flushed to zero below the normal range, or for float16 by a step there.
FLOOR = {"float64": 2.0**-1022, "float32": 2.0**-126, "bfloat16": 2.0**-126, "float16": 2.0**-24}

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

    @classmethod
    def of(cls, dtype: DType) -> Arithmetic:
        """That of a dtype's own units."""
        summed = min(EPS[dtype], EPS["float32"]) / 2
        return cls(EPS[dtype] / 2, summed, FLOOR[dtype])

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
