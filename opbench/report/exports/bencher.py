"""Bencher Metric Format: {benchmark: {measure: {value, lower_value, upper_value}}}.

`latency` is Bencher's built-in measure, in nanoseconds; its bounds are the quartiles of the samples. The other measures
are made on first use, by these slugs. A failed case has no benchmark: its alert is that the series stops.

Source: https://bencher.dev/docs/reference/bencher-metric-format/
"""

from __future__ import annotations

from opbench.analyse.standings import Timing
from opbench.report.exports.rows import Measured, as_json, finite, passed, timed
from opbench.schema import Run

Metric = dict[str, float]


def bencher(run: Run) -> bytes:
    """One benchmark a case for its counts, and one a timing method for its times."""
    found: dict[str, dict[str, Metric]] = {}
    for one in passed(run):
        found[one.name] = _counts(one)
        for name, method in timed(one):
            found[name] = _times(one.row.timing(method))
    return as_json({name: measures for name, measures in found.items() if measures})


def _counts(one: Measured) -> dict[str, Metric]:
    record = one.row.record
    counts, memory = (record.counts, record.memory) if record else (None, None)
    figures = {
        "params": counts.params if counts else None,
        "macs": counts.macs if counts else None,
        "peak-memory-bytes": memory.peak_bytes if memory else None,
        "saved-for-backward-bytes": memory.saved_bytes if memory else None,
    }
    return {measure: {"value": value} for measure, value in figures.items() if value is not None}


def _times(timing: Timing) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    if timing.latency:
        times = timing.latency
        found["latency"] = _metric(1e9 * times.median_seconds, 1e9 * times.lower_seconds, 1e9 * times.upper_seconds)
    if timing.ratio and finite(timing.ratio.value):
        found["latency-ratio"] = _metric(timing.ratio.value, timing.ratio.low, timing.ratio.high)
    return found


def _metric(value: float, low: float, high: float) -> Metric:
    """Bounds that are no numbers (the interval of a single round) are left out: they are optional."""
    bounds = {"lower_value": low, "upper_value": high}
    return {"value": value, **{name: end for name, end in bounds.items() if finite(end)}}
