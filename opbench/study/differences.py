"""Scores and losses over seeds, and their differences to the baseline seed by seed, with 95 % intervals.

The seed is the statistical unit: it draws the weights around the slots, the slots' own, and the order of the data. A
contender and the baseline share a seed, so a difference is taken within it, and the interval is Student's t over the
seeds. It holds for the seeds that might have been drawn, not for other data, networks or budgets, and every interval
stands alone: with six contenders one in four studies of equals would show a difference somewhere.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from opbench.statistics.intervals import CONFIDENCE, student_t
from opbench.statistics.ratios import FEWEST_ROUNDS, Method, Ratio, interval
from opbench.study.document import Contender, Purpose, StudyResult

# Points of a loss curve: each is the mean over its share of the steps, so that single batches don't hide the trend.
POINTS = 25


class Estimate(msgspec.Struct, frozen=True):
    """A mean over seeds with its 95 % interval; infinite ends where a single seed gives none."""

    value: float
    low: float
    high: float
    seeds: int

    @property
    def decided(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


class StudyStanding(msgspec.Struct, frozen=True):
    """A contender's score of one metric, and its difference to the baseline's; None without a finite score."""

    contender: Contender
    metric: str
    score: Estimate | None
    difference: Estimate | None
    diverged: int


class SeedPoint(msgspec.Struct, frozen=True):
    """A point of a curve: a contender at a step, over seeds."""

    contender: str
    step: float
    estimate: Estimate


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and Student's t interval of the finite values; None without any.

    >>> found = estimate([1.0, 2.0, 3.0])
    >>> [round(end, 2) for end in (found.value, found.low, found.high)]
    [2.0, -0.48, 4.48]
    """
    kept = [value for value in values if math.isfinite(value)]
    if not kept:
        return None
    mean = statistics.fmean(kept)
    if len(kept) == 1:
        return Estimate(mean, -math.inf, math.inf, 1)
    half = student_t(len(kept) - 1, (1 + CONFIDENCE) / 2) * statistics.stdev(kept) / math.sqrt(len(kept))
    return Estimate(mean, mean - half, mean + half, len(kept))


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate | None:
    """Ours - theirs over the seeds that both have."""
    return estimate([ours[seed] - theirs[seed] for seed in ours if seed in theirs])


def standings(result: StudyResult, metric: str) -> tuple[StudyStanding, ...]:
    """Every contender, in the order declared."""
    baseline = _scores(result, result.baseline, metric)
    found = []
    for contender in result.contenders:
        scores = _scores(result, contender.name, metric)
        difference = None if contender.name == result.baseline else paired(scores, baseline)
        diverged = sum(not math.isfinite(score) for score in scores.values())
        found.append(StudyStanding(contender, metric, estimate(list(scores.values())), difference, diverged))
    return tuple(found)


def loss_curves(result: StudyResult) -> Iterator[SeedPoint]:
    """The loss over seeds at `POINTS` points along the training."""
    for contender in result.contenders:
        binned = _binned(result, contender.name)
        for index, step in enumerate(_middles(result.steps)):
            if found := estimate([losses[index] for losses in binned.values()]):
                yield SeedPoint(contender.name, step, found)


def loss_differences(result: StudyResult) -> Iterator[SeedPoint]:
    """The loss minus the baseline's on the same batches, over seeds."""
    baseline = _binned(result, result.baseline)
    for contender in result.contenders:
        if contender.name == result.baseline:
            continue
        binned = _binned(result, contender.name)
        for index, step in enumerate(_middles(result.steps)):
            ours, theirs = ({seed: losses[index] for seed, losses in of.items()} for of in (binned, baseline))
            if found := paired(ours, theirs):
                yield SeedPoint(contender.name, step, found)


def changes(result: StudyResult, contender: str, quantity: str) -> Iterator[tuple[int, float, Estimate]]:
    """Slot, mean before the first step, and the estimate after the last, over the scored seeds."""
    trainings = result.of(contender, "scored")
    named = [change for training in trainings for change in training.changes if change.quantity == quantity]
    for slot in sorted({change.slot for change in named}):
        found = [change for change in named if change.slot == slot]
        if after := estimate([change.after for change in found]):
            yield slot, statistics.fmean(change.before for change in found), after


def step_ratio(contender: Contender, baseline: Contender) -> Ratio | None:
    """CPU seconds of a step over the baseline's in the same rounds; None where there are none."""
    logs = [
        math.log(ours / theirs)
        for ours, theirs in zip(contender.step_seconds, baseline.step_seconds, strict=False)
        if ours > 0 and theirs > 0
    ]
    if not logs:
        return None
    low, middle, high = interval(logs)
    method: Method = "one-round" if len(logs) == 1 else "range" if len(logs) < FEWEST_ROUNDS else "order-statistics"
    return Ratio(math.exp(middle), math.exp(low), math.exp(high), len(logs), 1, method)


def _scores(result: StudyResult, contender: str, metric: str, purpose: Purpose = "scored") -> dict[int, float]:
    return {training.seed: training.scores[metric] for training in result.of(contender, purpose)}


def _bins(steps: int) -> list[range]:
    points = min(POINTS, steps)
    return [range(index * steps // points, (index + 1) * steps // points) for index in range(points)]


def _middles(steps: int) -> list[float]:
    return [(part.start + part.stop + 1) / 2 for part in _bins(steps)]


def _binned(result: StudyResult, contender: str) -> dict[int, list[float]]:
    """Seed -> the mean loss of every bin."""
    return {
        training.seed: [statistics.fmean(training.losses[part.start : part.stop]) for part in _bins(result.steps)]
        for training in result.of(contender, "scored")
    }
