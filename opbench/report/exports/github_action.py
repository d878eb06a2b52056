"""For the GitHub action "github-action-benchmark": an array of {name, value, unit, range, extra}.

The action reads one file for figures of which less is better, another for those of which more is
(`tool: customSmallerIsBetter`, `customBiggerIsBetter`), and ties points of a chart together by name alone: names hold
no number that may change from run to run. `range` is text that it shows beside the value.

Source: https://github.com/benchmark-action/github-action-benchmark
"""

from __future__ import annotations

from collections.abc import Iterator

from opbench.quantities import MACS, RATIO, SECONDS, exact, published
from opbench.report import numbers
from opbench.report.escape import visible
from opbench.report.exports.rows import ExportedCase, as_json, finite, passed, timed
from opbench.schema import Run

Entry = dict[str, object]


def smaller_is_better(run: Run) -> bytes:
    """Latency in nanoseconds, its ratio to the panel's baseline, and bytes."""
    return as_json([entry for one in passed(run) for entry in _smaller(one, run)])


def bigger_is_better(run: Run) -> bytes:
    """How many times as fast as the panel's baseline, and MACs a second."""
    return as_json([entry for one in passed(run) for entry in _bigger(one, run)])


def _smaller(one: ExportedCase, run: Run) -> Iterator[Entry]:
    extra, told = _extra(one, run), dict(published("github-action", "time"))
    for name, method in timed(one):
        timing = one.row.timing(method)
        if timing.latency:
            low, high = timing.latency.lower_seconds, timing.latency.upper_seconds
            quartiles = f"{1e9 * low:.6g} to {1e9 * high:.6g} (quartiles)"
            yield _entry(f"{name} {told[SECONDS]}", 1e9 * timing.latency.median_seconds, "ns", quartiles, extra)
        if timing.ratio and not one.row.is_baseline and finite(timing.ratio.value):
            yield _entry(f"{name} {told[RATIO]}", timing.ratio.value, "x", numbers.ratio(timing.ratio), extra)
    for of, title in exact("github-action"):
        value = of.of(one.row.record)
        if value is not None:
            yield _entry(f"{one.name} {title}", value, of.unit, "", extra)


def _bigger(one: ExportedCase, run: Run) -> Iterator[Entry]:
    extra = _extra(one, run)
    macs = MACS.of(one.row.record)
    for name, method in timed(one):
        timing = one.row.timing(method)
        if timing.ratio and not one.row.is_baseline and finite(timing.ratio.value) and timing.ratio.value > 0:
            ends = [numbers.plain(1 / end if end else float("inf")) for end in (timing.ratio.high, timing.ratio.low)]
            yield _entry(f"{name} speed-up", 1 / timing.ratio.value, "x", f"[{', '.join(ends)}]", extra)
        if timing.latency and macs:
            yield _entry(f"{name} MAC rate", macs / timing.latency.median_seconds, "MAC/s", "", extra)


def _entry(name: str, value: float, unit: str, range_: str, extra: str) -> Entry:
    told = {"range": range_} if range_ else {}
    return {"name": name, "value": value, "unit": unit, **told, "extra": extra}


def _extra(one: ExportedCase, run: Run) -> str:
    """What the chart's tooltip says: where it was measured and against what."""
    where = run.environment
    lines = (
        f"baseline: {one.standing.panel.baseline or 'none'}",
        f"machine: {where.cpu}, {where.threads} threads" + (f", {where.gpu}" if where.gpu else ""),
        f"torch: {where.versions.get('torch', 'unknown')}",
    )
    return "\n".join(visible(line, 200) for line in lines)
