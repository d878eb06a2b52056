"""Raw samples to ratios with 95 % intervals. Everything here can be recomputed from the run document.

A contender and its baseline are timed in the same rounds, so a round gives one paired log-ratio and a machine that
drifts moves both. The interval depends on what the statistical unit is:

- one visit, that is one process: the unit is the round. The interval of the median is read off the sorted log-ratios,
  with no assumption about their distribution. It speaks of that visit's rounds and not of what another visit finds,
  and the method says so. Below six rounds no such interval reaches 95 %: the full range is given and said.
- several visits: the unit is the visit, because memory layout, thread placement and the machine's phase are drawn once
  for it (`opbench.statistics.visits`).
"""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

from opbench.schema import Latency
from opbench.statistics.intervals import CONFIDENCE, FEWEST_ROUNDS, interval
from opbench.statistics.visits import over_visits

__all__ = [
    "CONFIDENCE",
    "FEWEST_ROUNDS",
    "METHODS",
    "Method",
    "Quartiles",
    "Ratio",
    "interval",
    "paired_log_ratios",
    "quartiles",
    "ratio",
    "usable_samples",
]

Method = Literal["order-statistics", "range", "one-round", "one-visit", "process-medians"]

METHODS: dict[Method, str] = {
    "order-statistics": (
        "95 % interval of the median over the paired rounds of a single visit, from their order statistics; another "
        "visit may lie outside"
    ),
    "range": "full range of fewer than six paired rounds: covers the median less than 95 % of the time",
    "one-round": "a single paired round: no interval is known",
    "one-visit": "the one visit of several that gave a figure, by its own rounds: another visit may lie outside",
    "process-medians": "95 % Student-t interval over visits in fresh processes, no narrower than their rounds",
}


class Ratio(msgspec.Struct, frozen=True, gc=False):
    """A contender's latency divided by its baseline's: above 1 is slower. `low` and `high` bound it (see METHODS)."""

    value: float
    low: float
    high: float
    rounds: int
    processes: int
    method: Method


class Quartiles(msgspec.Struct, frozen=True, gc=False):
    """Absolute times over every sample of every process, in seconds per call."""

    lower_seconds: float
    median_seconds: float
    upper_seconds: float
    samples: int


def paired_log_ratios(contender: Latency, baseline: Latency) -> tuple[tuple[float, ...], ...]:
    """Natural log of contender / baseline for each round that both have, per process.

    A sample that is no time (NaN, 0) stands for a discarded one, as of a throttled clock: its round is no pair.
    """
    if contender.method != baseline.method:
        raise ValueError(
            f"samples of two timing methods are no pairs: {contender.method!r} against {baseline.method!r}; "
            "compare latencies of the same method"
        )
    # What a contender leaves out includes the rounds in which its baseline waited. A round of only one is no pair.
    processes = zip(contender.used_seconds, baseline.samples_seconds, strict=False)
    return tuple(_log_ratios(ours, theirs) for ours, theirs in processes)


def _log_ratios(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, ...]:
    """Of the rounds that both have."""
    if _all_usable(ours) and _all_usable(theirs):
        return tuple(map(operator.sub, map(math.log, ours), map(math.log, theirs)))
    return tuple(math.log(a) - math.log(b) for a, b in zip(ours, theirs, strict=False) if _usable(a) and _usable(b))


def ratio(contender: Latency, baseline: Latency) -> Ratio | None:
    """The ratio of two latencies measured in the same rounds; None where not a single round is a pair."""
    processes = [pairs for pairs in paired_log_ratios(contender, baseline) if pairs]
    if not processes:
        return None
    rounds = sum(map(len, processes))
    method: Method
    if len(processes) == 1:
        low, middle, high = interval(processes[0])
        alone: Method = "order-statistics" if len(contender.samples_seconds) == 1 else "one-visit"
        method = "one-round" if rounds == 1 else "range" if rounds < FEWEST_ROUNDS else alone
    else:
        low, middle, high = over_visits(processes)
        method = "process-medians"
    return Ratio(saturating_exp(middle), saturating_exp(low), saturating_exp(high), rounds, len(processes), method)


def quartiles(latency: Latency) -> Quartiles | None:
    """Median and quartiles of the absolute times; None where no sample is usable."""
    samples = sorted(usable_samples(latency))
    if not samples:
        return None
    if len(samples) == 1:
        return Quartiles(samples[0], samples[0], samples[0], 1)
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
    return Quartiles(lower, median, upper, len(samples))


def usable_samples(latency: Latency) -> list[float]:
    """Every sample of every process that is a time."""
    found: list[float] = []
    for process in latency.used_seconds:
        found += process if _all_usable(process) else filter(_usable, process)
    return found


_SHORTEST, _LONGEST = 1e-12, 1e12


def _usable(sample: float) -> bool:
    """A picosecond to 30,000 years: a document may hold anything, and no clock has measured what lies beyond."""
    return _SHORTEST <= sample <= _LONGEST


def _all_usable(samples: Sequence[float]) -> bool:
    """Whether each of them is. A large run has millions, so that it is asked of all at once; a NaN shows in the sum."""
    return not samples or (math.isfinite(sum(samples)) and min(samples) >= _SHORTEST and max(samples) <= _LONGEST)


def saturating_exp(value: float) -> float:
    """Exp that saturates: Student's t over two processes that disagree has no useful upper end."""
    return math.exp(value) if value < 700 else math.inf
