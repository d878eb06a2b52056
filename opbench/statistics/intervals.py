"""The distribution-free interval of a median: what stops a measurement, and what its ratio is reported with."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import lru_cache

CONFIDENCE = 0.95
FEWEST_ROUNDS = 6  # 2 * (1/2)**6 <= 1 - CONFIDENCE < 2 * (1/2)**5: fewer rounds can't reach 95 %


def interval(log_ratios: Sequence[float]) -> tuple[float, float, float]:
    """(low, median, high) of the log-ratios of one process: the distribution-free 95 % interval of the median.

    Cheap enough to call after every round as a stopping criterion. With two to five rounds it is their full range;
    with one round the ends are infinite, so that no precision is ever read from it.

    >>> interval([0.3, 0.1, 0.2, 0.5, 0.4, 0.6])
    (0.1, 0.35, 0.6)
    >>> interval([0.1])
    (-inf, 0.1, inf)
    """
    if not log_ratios:
        raise ValueError("an interval needs at least one round, got none")
    if len(log_ratios) == 1:
        return -math.inf, log_ratios[0], math.inf
    ordered = sorted(log_ratios)
    outside = _ranks_outside(len(ordered))
    return ordered[outside], statistics.median(ordered), ordered[-1 - outside]


@lru_cache(maxsize=4096)
def _ranks_outside(rounds: int) -> int:
    """How many order statistics lie outside the interval on each side.

    The k-th smallest and k-th largest of n values miss the median when fewer than k fall on one side of it, which
    happens with probability 2 * P(Binomial(n, 1/2) < k). Integers keep it exact.
    """
    allowed = (1 - CONFIDENCE) / 2 * 2**rounds if rounds < 1000 else ((1 << rounds) * 25) // 1000
    tail, choose = 0, 1
    for k in range(rounds):
        tail += choose
        if tail > allowed:
            return max(k - 1, 0)
        choose = choose * (rounds - k) // (k + 1)
    raise AssertionError("the binomial distribution sums to more than its tail")


@lru_cache(maxsize=4096)
def student_t(freedom: float, probability: float) -> float:
    """Quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))
