"""What the drawings show, row by row: contenders to data that Vega-Lite reads. A row without a figure gives none."""

from __future__ import annotations

import math
from collections.abc import Iterator

from opbench.analyse.standings import Row, Standing
from opbench.quantities import exact
from opbench.report import numbers
from opbench.report.drawing import LABEL_LIMIT, Datum, name_of
from opbench.report.escape import visible
from opbench.report.tables import latency_ratio, verdicts
from opbench.statistics.ratios import FEWEST_ROUNDS


def ratio_datum(row: Row, method: str) -> Datum:
    """A contender's bar: its ratio, the ends of its interval, and what it says of the baseline."""
    found = row.timing(method).ratio
    label = {"contender": name_of(row), "label": visible(latency_ratio(row, method), LABEL_LIMIT)}
    if row.is_baseline or found is None or not 0 < found.value < math.inf:
        return {**label, "speed": "none", **dict.fromkeys(("ratio", "low", "high"), 1.0)}
    speed = "faster" if found.high < 1 else "slower" if found.low > 1 else "undecided"
    if found.rounds < FEWEST_ROUNDS:
        speed = "undecided"  # such an interval misses the median too often to decide anything
    low, high = found.low, found.high
    if found.method == "one-round":  # no interval is known, so none is drawn; the label says so
        low = high = found.value
    # A very wide interval is cut where the picture still shows the rest.
    low, high = max(low, found.value / 10), min(high, found.value * 10)
    return {**label, "speed": speed, "ratio": found.value, "low": low, "high": high}


def pareto_data(standing: Standing, method: str) -> list[Datum]:
    """MACs and latency of every contender that has both, and whether it is on the front."""
    data: list[Datum] = []
    for row in standing.rows:
        counts, latency = row.record.counts if row.record else None, row.timing(method).latency
        if counts and latency and counts.macs >= 0:
            data.append(
                {"contender": name_of(row), "macs": float(counts.macs), "milliseconds": 1e3 * latency.median_seconds}
            )
    _place(data, "macs")
    for datum in data:
        datum["front"] = not any(_dominates(other, datum) for other in data)
    return data


def accuracy_data(standing: Standing, method: str) -> dict[str, list[Datum]]:
    """By operator: largest error and latency of every contender that has both."""
    groups: dict[str, list[Datum]] = {}
    for row in standing.rows:
        errors = [verdict.max_error for verdict in verdicts(row.record)]
        latency = row.timing(method).latency
        if errors and latency and all(0 <= error < math.inf for error in errors):
            datum = {"contender": name_of(row), "error": max(errors), "milliseconds": 1e3 * latency.median_seconds}
            groups.setdefault(row.case.operator, []).append(datum)
    for data in groups.values():
        _place(data, "error")
    return groups


def _place(data: list[Datum], field: str) -> None:
    """A log axis has no zero: a datum without any stands a decade left of the least, on a tick that says 0."""
    least = min((datum[field] for datum in data if datum[field]), default=10)
    zero = 10.0 ** (math.floor(math.log10(least)) - 1)
    for datum in data:
        datum["x"] = datum[field] or zero


def _dominates(one: Datum, other: Datum) -> bool:
    ours, theirs = (one["macs"], one["milliseconds"]), (other["macs"], other["milliseconds"])
    return ours != theirs and ours[0] <= theirs[0] and ours[1] <= theirs[1]


def roofline_data(standing: Standing, method: str) -> Iterator[Datum]:
    """MACs per second and per byte of least traffic."""
    for row in standing.rows:
        counts, latency = row.record.counts if row.record else None, row.timing(method).latency
        if counts and latency and counts.macs > 0 and counts.min_bytes > 0:
            yield {
                "contender": name_of(row),
                "intensity": counts.macs / counts.min_bytes,
                "speed": counts.macs / latency.median_seconds,
            }


def memory_data(row: Row) -> Iterator[Datum]:
    """Peak bytes, and in training what is saved for backward; a failure by its name."""
    missing = numbers.NOT_MEASURED if row.outcome == "ok" else row.outcome
    for of, kind in exact("memory chart"):
        if of.training and row.case.mode == "inference":
            continue
        value = of.of(row.record) if row.outcome == "ok" else None
        yield {
            "contender": name_of(row),
            "kind": kind,
            "bytes": float(value or 0),
            "known": value is not None,
            "label": numbers.figure(of, value, missing),
        }
