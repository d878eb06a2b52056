"""What the visits of a panel say together: Student's t over their medians, and never less than their rounds say.

A visit is a fresh process, minutes from the others: where buffers lie, who else has the machine and at what clock it
runs are drawn once for it. The visit is therefore the statistical unit, and a few of them tell little of how far they
differ: Student's t with as many degrees of freedom as there are visits but one holds what three of them can know.
Three that agree by luck would claim more than their own rounds do; so the interval is at least as wide as what the
rounds of the visits come to together. The figure itself is the median of the visits: of three, one that met another
phase of the machine widens the interval and doesn't move the figure.

Simulated with 3 visits of 20 rounds whose times have a long upper tail, of nominal 95 % intervals: 98 % hold the truth
where visits don't differ (Student's t alone: 94), 95 to 97 % where they scatter as much as rounds do or more, also with
heavy tails. The percentiles of a hierarchical bootstrap over visits and rounds hold 98, 76 and 72 %: three visits have
too few ways to be drawn anew. tests/statistics/test_visit_intervals.py says so each time it runs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from opbench.statistics.intervals import CONFIDENCE, interval, student_t


def over_visits(visits: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """(low, median, high) over the visits' own medians, from the log-ratios of each one's rounds; at least two visits.

    >>> [round(value, 3) for value in over_visits([[0.1] * 8, [0.1] * 8, [0.1] * 8])]
    [0.1, 0.1, 0.1]
    """
    if len(visits) < 2:
        raise ValueError(f"how far visits differ needs at least two of them, got {len(visits)}")
    medians = [statistics.median(rounds) for rounds in visits]
    mean = statistics.fmean(medians)
    between = student_t(len(visits) - 1, (1 + CONFIDENCE) / 2) * statistics.stdev(medians) / math.sqrt(len(visits))
    half = max(between, _of_rounds(visits))
    return mean - half, statistics.median(medians), mean + half


def _of_rounds(visits: Sequence[Sequence[float]]) -> float:
    """Half of the interval that the rounds alone give the mean of the medians. A lone round says nothing of scatter."""
    halves = []
    for rounds in visits:
        if len(rounds) > 1:
            low, _, high = interval(rounds)
            halves.append((high - low) / 2)
    if not halves:
        return 0.0
    return math.sqrt(statistics.fmean(half**2 for half in halves) / len(visits))
