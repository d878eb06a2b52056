"""Where a series of figures steps to another level and stays there; single spikes are told apart from steps.

values (n,) in the order of the runs, positive; everything happens on their logarithms, where a slow-down of 5 % is the
same distance at any level. Three stages:

1. A running median over five points follows a step that lasts and ignores what lasts one or two points. Each value is
   clipped to within `CLIP` standard deviations of it, so that neither a spike nor a heavy tail can pass for a level.
2. Optimal partitioning: the segmentation, of at least `LEAST` points each, with the least sum of squares plus a penalty
   a change. It is deliberately generous.
3. Each change has to stand on its own: Student's t between its two neighbouring segments, Bonferroni-corrected for the
   places where it might have been, and at least the minimum effect. The weakest that fails is merged away, until none.

The spread is estimated from the differences of neighbours, in which a step counts once and a level not at all.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from opbench.statistics.intervals import student_t

LEAST = 3
WINDOW = 5
CLIP = 2.0
# Chance that a series of nothing but noise shows a change; tests/analyse/test_change_points.py measures it.
SIGNIFICANCE = 0.001
MINIMUM_EFFECT = 0.02
# How many standard deviations from its segment make a point a spike.
SPIKE = 5.0
# Figures that agree to this share are one figure: identical values have no spread to measure.
RESOLUTION = 1e-4


class Step(msgspec.Struct, frozen=True):
    """The level changes at point `at`: the geometric means `before` and `after`, in the values' unit."""

    at: int
    before: float
    after: float

    @property
    def ratio(self) -> float:
        """After / before."""
        return self.after / self.before


class Changes(msgspec.Struct, frozen=True):
    """Steps, spikes (points that leave their segment and come back) and how many of the last points are undecided.

    `undecided`: the newest one or two points lie off their segment, which may be a spike or the start of a step.
    """

    steps: tuple[Step, ...] = ()
    spikes: tuple[int, ...] = ()
    undecided: tuple[int, ...] = ()


def changes(values: Sequence[float], *, minimum_effect: float = MINIMUM_EFFECT) -> Changes:
    """The steps and spikes of `values`, each finite and above 0 (`ValueError` otherwise), in the order of the runs."""
    if not all(0 < value < math.inf for value in values):
        raise ValueError("a series on a logarithmic scale needs finite values above 0: leave failures out before")
    if len(values) < LEAST + 1:
        return Changes()
    logs = [math.log(value) for value in values]
    spread = _spread(logs)
    middle = _running_median(logs)
    reach = CLIP * spread
    clipped = [min(max(log, level - reach), level + reach) for log, level in zip(logs, middle, strict=True)]
    starts = _stand_alone(clipped, _partition(clipped, spread), spread, math.log1p(minimum_effect))
    ends = [*starts[1:], len(values)]
    levels = [statistics.fmean(clipped[a:b]) for a, b in zip(starts, ends, strict=True)]
    steps = tuple(
        Step(at, math.exp(before), math.exp(after))
        for at, before, after in zip(starts[1:], levels, levels[1:], strict=False)
    )
    far = max(SPIKE * spread, math.log1p(minimum_effect))
    off = [
        index
        for a, b, level in zip(
            starts, ends, (statistics.median(logs[a:b]) for a, b in zip(starts, ends, strict=True)), strict=True
        )
        for index in range(a, b)
        if abs(logs[index] - level) > far
    ]
    newest = [index for index in off if all(later in off for later in range(index, len(values)))]
    newest = newest if len(newest) < LEAST else []
    return Changes(steps, tuple(index for index in off if index not in newest), tuple(newest))


def _spread(logs: Sequence[float]) -> float:
    """Standard deviation of the noise, from the median distance of neighbours."""
    distances = [abs(b - a) for a, b in itertools.pairwise(logs)]
    return max(statistics.median(distances) / (0.6745 * math.sqrt(2)), RESOLUTION)


def _running_median(logs: Sequence[float]) -> list[float]:
    """Median of the `WINDOW` points around each; at the ends, of the first and last `WINDOW`."""
    last = max(0, len(logs) - WINDOW)
    return [
        statistics.median(logs[start : start + WINDOW])
        for start in (min(max(0, index - WINDOW // 2), last) for index in range(len(logs)))
    ]


def _partition(values: Sequence[float], spread: float) -> list[int]:
    """Starts of the segments of least squares with a penalty a change; O(n^2), a few milliseconds for 1,000 points."""
    import numpy as np

    n = len(values)
    centred = np.asarray(values) - statistics.fmean(values)
    total = np.concatenate([[0.0], np.cumsum(centred)])
    squares = np.concatenate([[0.0], np.cumsum(centred**2)])
    penalty = 2 * spread**2 * math.log(n)
    best = np.full(n + 1, np.inf)
    best[0] = -penalty
    came_from = np.zeros(n + 1, dtype=np.int64)
    indices = np.arange(n + 1)
    for end in range(LEAST, n + 1):
        last = end - LEAST + 1  # a segment that ends here starts before
        cost = squares[end] - squares[:last] - (total[end] - total[:last]) ** 2 / (end - indices[:last])
        whole = best[:last] + cost + penalty
        chosen = int(np.argmin(whole))
        best[end], came_from[end] = whole[chosen], chosen
    starts_found, end = [], n
    while end > 0:
        end = int(came_from[end])
        starts_found.append(end)
    return starts_found[::-1]


def _stand_alone(values: Sequence[float], starts: Sequence[int], spread: float, least_step: float) -> list[int]:
    """The starts whose change survives the test against its neighbours, the weakest merged away one by one."""
    kept = [_Segment.of(values[a:b], a) for a, b in zip(starts, [*starts[1:], len(values)], strict=True)]
    while len(kept) > 1:
        freedom = len(values) - len(kept)
        deviation = max(math.sqrt(sum(one.squares for one in kept) / freedom), spread)
        needed = _needed(freedom, len(values) - 2 * LEAST + 1) * deviation
        strengths = [left.strength(right, needed, least_step) for left, right in itertools.pairwise(kept)]
        weakest = min(range(len(strengths)), key=strengths.__getitem__)
        if strengths[weakest] >= 1:
            break
        kept[weakest : weakest + 2] = [kept[weakest].joined(kept[weakest + 1])]
    return [one.start for one in kept]


class _Segment(msgspec.Struct, frozen=True):
    """Points from `start` on: how many, their mean, and their sum of squares around it."""

    start: int
    points: int
    mean: float
    squares: float

    @staticmethod
    def of(values: Sequence[float], start: int) -> _Segment:
        mean = statistics.fmean(values)
        return _Segment(start, len(values), mean, sum((value - mean) ** 2 for value in values))

    def strength(self, right: _Segment, needed: float, least_step: float) -> float:
        """The step to the segment after this one, in units of what it takes to be believed."""
        step = abs(right.mean - self.mean)
        return step / (needed * math.sqrt(1 / self.points + 1 / right.points)) if step >= least_step else 0.0

    def joined(self, right: _Segment) -> _Segment:
        points = self.points + right.points
        step = right.mean - self.mean
        squares = self.squares + right.squares + step**2 * self.points * right.points / points
        return _Segment(self.start, points, self.mean + step * right.points / points, squares)


@lru_cache(maxsize=4096)
def _needed(freedom: int, places: int) -> float:
    """The t value that noise exceeds in a share `SIGNIFICANCE` of series with as many places for a change."""
    return student_t(freedom, 1 - SIGNIFICANCE / (2 * max(1, places)))
