"""Bencher Metric Format: {benchmark: {measure: {value, lower_value, upper_value}}}.

`latency` is Bencher's built-in measure, in nanoseconds; its bounds are the quartiles of the samples. The other measures
are made on first use, by these slugs. A failed case has no benchmark: its alert is that the series stops.

Source: https://bencher.dev/docs/reference/bencher-metric-format/
"""

from __future__ import annotations

from opbench.analyse.standings import Timing
from opbench.quantities import SECONDS, exact, published
from opbench.report.exports.rows import ExportedCase, ExportedRun, as_json, finite, timed

Metric = dict[str, float]


def bencher(run: ExportedRun) -> bytes:
    """One benchmark a case for its counts, and one a timing method for its times."""
    found: dict[str, dict[str, Metric]] = {}
    for one in run.passed:
        found[one.name] = _counts(one)
        for name, method in timed(one):
            found[name] = _times(one.row.timing(method))
    return as_json({name: measures for name, measures in found.items() if measures})


def _counts(one: ExportedCase) -> dict[str, Metric]:
    figures = ((measure, of.of(one.row.record)) for of, measure in exact("bencher"))
    return {measure: {"value": value} for measure, value in figures if value is not None}


def _times(timing: Timing) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for of, measure in published("bencher", "time"):
        figure = of.of_timing(timing)
        if figure and finite(figure[0]):
            found[measure] = _metric(*((1e9 * value for value in figure) if of is SECONDS else figure))
    return found


def _metric(value: float, low: float, high: float) -> Metric:
    """Bounds that are no numbers (the interval of a single round) are left out: they are optional."""
    bounds = {"lower_value": low, "upper_value": high}
    return {"value": value, **{name: end for name, end in bounds.items() if finite(end)}}
