"""How far apart two contenders are that took turns in random order: shifts of log times, robustly.

Within a round the order is drawn at random. Whatever the machine does to the two places of a round (drift, clocks,
another process) then falls on either contender with equal chance, so that under identical code each log-ratio is as
likely +d as -d, independently of all other rounds, *however* autocorrelated the machine is. Wilcoxon's signed-rank
interval around the Hodges-Lehmann centre rests on no more than that. What is a contender's own (where its buffers
lie, the core its process sits on) is not randomised by the order; slow movements of that kind show in the spread of
batches of consecutive rounds, so the wider of the two intervals is taken. Simulated coverage of 95 % intervals over
120 rounds: drift and bursts, Wilcoxon 95 %, block bootstrap 94 %, the wider of the two 97 %; bursts that hit one
contender only, Wilcoxon 52 %, block bootstrap 83 %, the wider of the two 95 %. An offset that lasts as long as the
process is seen by neither: that is what fresh processes are for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np

from opbench.statistics.intervals import CONFIDENCE, interval, student_t

BATCHES = 10
LEAST_ROUNDS = 3 * BATCHES
# Walsh averages grow with the square of the rounds; beyond this, medians of consecutive rounds stand for them. They
# are as symmetric under the random order as the rounds themselves.
MOST_ROUNDS = 600
# Rounds in which a block was interrupted are left out as long as this many remain; else all are taken as they are.
LEAST_CLEAN = 8


class Shift(msgspec.Struct, frozen=True):
    """A difference of log times: its value, standard error and the degrees of freedom the error is known with."""

    value: float
    error: float
    freedom: float

    def interval(self) -> tuple[float, float]:
        """The two-sided 95 % interval of Student's t."""
        half = student_t(self.freedom, (1 + CONFIDENCE) / 2) * self.error
        return self.value - half, self.value + half

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval."""
        low, high = self.interval()
        return (high - low) / 2


def log_ratios(first: Sequence[float], second: Sequence[float], interrupted: Sequence[int]) -> list[float]:
    """log(second / first) of every round; without the interrupted ones where enough others remain.

    A block that took no time, or less than none, is the clock's fault and no pair.
    """
    left_out = set(interrupted)
    every = {at: math.log(b / a) for at, (a, b) in enumerate(zip(first, second, strict=True)) if a > 0 and b > 0}
    clean = [value for at, value in every.items() if at not in left_out]
    return clean if len(clean) >= LEAST_CLEAN else list(every.values())


def shift(log_ratios: Sequence[float]) -> Shift:
    """Where the log-ratios of one process lie: Hodges-Lehmann, and the wider of Wilcoxon's and the batches' interval.

    Below `LEAST_ROUNDS` there are too few for batches; below six, Wilcoxon's interval is their full range.

    >>> round(shift([0.01, 0.02, 0.03, 0.02, 0.01, 0.03, 0.02]).value, 3)
    0.02
    """
    rounds = len(log_ratios)
    if rounds < 2:
        return Shift(log_ratios[0] if log_ratios else math.nan, math.inf, 1.0)
    values = np.asarray(log_ratios, dtype=np.float64)
    walsh = _walsh(_thinned(values))
    centre = _median(walsh)
    ranked = Shift(centre, _wilcoxon_error(walsh), rounds - 1)
    if rounds < LEAST_ROUNDS:
        return ranked
    means = [_median(_walsh(_thinned(batch))) for batch in np.array_split(values, BATCHES)]
    batched = Shift(centre, float(np.std(means, ddof=1)) / math.sqrt(BATCHES), BATCHES - 1)
    return max(ranked, batched, key=lambda found: found.half_width)


def median_shift(log_ratios: Sequence[float]) -> Shift:
    """The same for contenders of different work: the median, and the wider of its own and the batches' interval.

    A busy machine hits the longer of two blocks more often, so that their log-ratio is not symmetric whatever the
    order. The Hodges-Lehmann centre then moves with how busy the machine was; the median doesn't until half of the
    rounds are hit. Its interval is a quarter wider.
    """
    rounds = len(log_ratios)
    if rounds < 2:
        return shift(log_ratios)
    low, centre, high = interval(log_ratios)
    half = max(centre - low, high - centre)
    ranked = Shift(centre, half / student_t(rounds - 1, (1 + CONFIDENCE) / 2), rounds - 1)
    if rounds < LEAST_ROUNDS:
        return ranked
    medians = [float(np.median(batch)) for batch in np.array_split(np.asarray(log_ratios), BATCHES)]
    batched = Shift(centre, float(np.std(medians, ddof=1)) / math.sqrt(BATCHES), BATCHES - 1)
    return max(ranked, batched, key=lambda found: found.half_width)


def _thinned(values: np.ndarray) -> np.ndarray:
    if len(values) <= MOST_ROUNDS:
        return values
    return np.array([np.median(part) for part in np.array_split(values, MOST_ROUNDS)])


def _walsh(values: np.ndarray) -> np.ndarray:
    """The averages of every pair of values, each with itself too, sorted."""
    rows, columns = _pairs(len(values))
    return np.sort((values[rows] + values[columns]) / 2)


@lru_cache(maxsize=8)
def _pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(count)


def _median(ordered: np.ndarray) -> float:
    return float((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)


def _wilcoxon_error(walsh: np.ndarray) -> float:
    """The standard error whose Student interval is as wide as the signed-rank test's, by its normal approximation."""
    n = round((math.sqrt(8 * len(walsh) + 1) - 1) / 2)
    spread = student_t(math.inf, (1 + CONFIDENCE) / 2) * math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    outside = max(0, math.floor(len(walsh) / 2 - spread))
    half = (walsh[len(walsh) - 1 - outside] - walsh[outside]) / 2
    return float(half) / student_t(n - 1, (1 + CONFIDENCE) / 2)
