"""Runs to columns: one row for every case and timing method, one for every panel; statistics and text made here.

The page draws numbers and prints texts; it computes no statistic of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from opbench.analyse.history.digest import machine_key
from opbench.analyse.standings import Row, Standing, contests
from opbench.quantities import ERROR, RATIO, SECONDS, Quantity, Style, exact, published
from opbench.report import numbers, tables
from opbench.report.dashboard.columns import Columns, Strings, number
from opbench.report.dashboard.places import newest
from opbench.report.families import families
from opbench.report.families import sweeps as family_sweeps
from opbench.report.limits import of_roofline
from opbench.report.plots import AXES
from opbench.schema import DEFAULT_RUNTIME, Case, Latency, Run, Verdict
from opbench.statistics.ratios import FEWEST_ROUNDS, METHODS, Ratio
from opbench.statistics.roofline import roofline, yardstick

# What stands in a row of the page but in no record: it takes the yardsticks of the run.
ROOF = Quantity(
    key="roof",
    title="of roofline",
    label="share of the roofline (1: as fast as the machine allows)",
    unit="share",
    style="plain",
    channel="time",
    help="The least time that the machine's yardsticks allow, over the median latency.",
    names={"digest": None, "contest": None},
)
# How the axes of the page write a number.
_AXIS_UNITS: dict[Style, str] = {"seconds": "s", "size": "B", "ratio": "x", "plain": "plain"}


class Stand(msgspec.Struct, frozen=True):
    """A run with its place among all runs of the page, and how its contenders stand: computed once."""

    place: int
    run: Run
    standings: tuple[Standing, ...]


def rows_and_panels(stands: Sequence[Stand], strings: Strings) -> tuple[Columns, Columns]:
    """(rows, panels) of runs, oldest first."""
    rows, panels = Columns(), Columns()
    found = [
        (one, contest, standing)
        for one in stands
        for contest, group in enumerate(contests(one.standings))
        for standing in group.standings
    ]
    current = newest([(machine_key(one.run.environment), standing.case) for one, _, standing in found])
    # The newest run first: what it measured is what a person came for. The sort keeps the order within a run.
    for index, (one, contest, standing) in sorted(enumerate(found), key=lambda item: -item[1][0].place):
        panel = panels.append(**_panel(one, contest, standing, strings), current=int(index in current))
        for row in standing.ranked():
            for method in standing.methods or ("",):
                rows.append(panel=panel, **_row(one.run, row, method, strings))
    return rows, panels


def _panel(one: Stand, contest: int, standing: Standing, strings: Strings) -> dict[str, Any]:
    run, case = one.run, standing.case
    return {
        "run": one.place,
        "contest": contest,
        "id": strings.name(standing.panel.id),
        "task": strings.name(case.task),
        "workload": strings.name(case.workload),
        "dtype": strings.add(case.dtype),
        "device": strings.add(case.device),
        "mode": strings.add(case.mode),
        "memoryFormat": strings.name(case.unusual_format),
        "across": int(case.across_runtimes),
        "executed": strings.name(case.executed),
        "dims": strings.name(standing.sizes),
        "spread": strings.add("" if case.spread is None else f"{case.spread:g}"),
        "seed": case.seed if abs(case.seed) < 2**53 else 0,
        "source": strings.add(standing.panel.source),
        "baseline": strings.name(standing.panel.baseline),
        "size": number(_elements(case)),
        "copy": number(yardstick(run, "copy", case.device, case.dtype)),
        "matmul": number(yardstick(run, "matmul", case.device, case.dtype)),
    }


def _row(run: Run, row: Row, method: str, strings: Strings) -> dict[str, Any]:
    record, timing = row.record, row.timing(method)
    counts = record.counts if record else None
    limit, latency = roofline(run.yardsticks, row.case, counts), timing.latency
    least, took = limit.seconds if limit else None, latency.median_seconds if latency else None
    low, high = _ends(timing.ratio)
    add = strings.add
    worst = worst_verdict(row)
    return {
        "contender": strings.name(row.case.contender),
        "operator": strings.name(row.case.operator),
        "implementation": strings.name(row.case.implementation),
        "runtime": strings.name("" if row.case.runtime == DEFAULT_RUNTIME else row.case.runtime),
        "base": int(row.is_baseline),
        "outcome": add(row.outcome),
        "message": add(row.message),
        "method": strings.name(method),
        _key(RATIO): number(timing.ratio.value if timing.ratio else None),
        "low": number(low),
        "high": number(high),
        "decided": int(timing.ratio is not None and timing.ratio.rounds >= FEWEST_ROUNDS),
        "interval": add(METHODS[timing.ratio.method] if timing.ratio else ""),
        f"{_key(RATIO)}Text": add(tables.latency_ratio(row, method)),
        _key(SECONDS): number(latency.median_seconds if latency else None),
        f"{_key(SECONDS)}Text": add(tables.median(row, method)),
        "sampling": add(_sampling(row, method)),
        "quartiles": add(
            f"{numbers.seconds(latency.lower_seconds)} to {numbers.seconds(latency.upper_seconds)}" if latency else ""
        ),
        **_counted(row, strings),
        _key(ERROR): number(ERROR.of(record)),
        f"{_key(ERROR)}Text": add(tables.error([row])),
        "rmsText": add(tables.error([row], "rms_error")),
        "intensity": number(_quotient(counts.macs, counts.min_bytes) if counts else None),
        "speed": number(_quotient(counts.macs, latency.median_seconds) if counts and latency else None),
        ROOF.key: number(least / took if least is not None and took else None),
        f"{ROOF.key}Text": add(of_roofline(limit, took)),
        "verdict": add(tables.verdict(row)),
        "worst": number(worst.worst_ratio if worst else None),
        "worstText": add(f"{numbers.plain(worst.worst_ratio)}x the bound" if worst else "not verified"),
        "where": add(_where(worst)),
        "judged": add(_judged(worst)),
    }


def _counted(row: Row, strings: Strings) -> dict[str, Any]:
    """The deterministic quantities, each as a number to draw and sort by and as text."""
    found: dict[str, Any] = {}
    for of, key in exact("dashboard"):
        known = row.case.mode == "training" or not of.training
        found[key] = number(of.of(row.record) if known else None)
        found[f"{key}Text"] = strings.add(tables.cell(of, row))
    return found


def _key(of: Quantity) -> str:
    return of.name("dashboard") or of.key


def described() -> list[dict[str, Any]]:
    """What the page's script must know of each quantity of a row, in the order of tables and menus.

    `key` is the column (and key + "Text" its text), `trend` what a series of it is called; `heading` may hold "{mode}".
    `unit` is how an axis writes it; a `log` axis starts at no zero.
    """
    found = []
    for of, key in (*published("dashboard"), (ROOF, ROOF.key)):
        found.append(
            {
                "key": key,
                "trend": of.name("digest") or "",
                "title": of.name("dashboard views") or of.title,
                "label": of.label or of.title,
                "heading": of.name("contest") or "",
                "note": of.note,
                "unit": _AXIS_UNITS.get(of.style, ""),
                "log": of.timed is not None,
                "exact": of.channel == "deterministic",
                "training": of.training,
                "offered": of.name("dashboard views") is not None,
            }
        )
    return found


def worst_verdict(row: Row) -> Verdict | None:
    """The verdict, before or after timing, that came closest to its bound or went furthest beyond."""
    found = tables.verdicts(row.record)
    # NaN compares as neither larger nor smaller; it is the worst of all.
    return max(found, key=lambda one: (one.worst_ratio != one.worst_ratio, one.worst_ratio), default=None)


def _ends(ratio: Ratio | None) -> tuple[float | None, float | None]:
    """The interval's ends, none where a single round gives none."""
    return (None, None) if ratio is None or ratio.method == "one-round" else (ratio.low, ratio.high)


def _sampling(row: Row, method: str) -> str:
    """How the latency was sampled: `58 samples in 1 process, 16 calls each, stopped by precision`."""
    latency = _latency(row, method)
    if latency is None:
        return "not timed"
    processes = sum(map(bool, latency.samples_seconds))
    count = f"{sum(map(len, latency.samples_seconds))} samples in {processes} process{'' if processes == 1 else 'es'}"
    return f"{count}, {numbers.exactly(latency.calls_per_sample)} calls each, stopped by {latency.stop}"


def _latency(row: Row, method: str) -> Latency | None:
    latencies = row.record.latencies if row.record and row.timings else ()
    return next((latency for latency in latencies if latency.method == method), None)


def _where(verdict: Verdict | None) -> str:
    if verdict is None or verdict.worst is None:
        return ""
    worst = verdict.worst
    index = ", ".join(map(str, worst.index))
    # Nine digits, which tell any two float32 apart.
    expected, got, bound = f"{worst.expected:.9g}", f"{worst.got:.9g}", numbers.plain(worst.bound)
    return f"{worst.tensor}[{index}]: expected {expected}, got {got}, bound {bound}"


def _judged(verdict: Verdict | None) -> str:
    if verdict is None:
        return "not verified"
    return f"{numbers.exactly(verdict.judged)} elements{' (sampled)' if verdict.sampled else ', all'}"


def _elements(case: Case) -> float:
    """N * C * H * W of the input, to sort workloads by: the names don't tell sizes."""
    size = 1.0
    for name in ("N", "C", "H", "W"):
        size *= case.dims.get(name, 1)
    return size


def _quotient(part: float, whole: float) -> float | None:
    return part / whole if part > 0 and whole > 0 else None


def sweeps(stands: Sequence[Stand], strings: Strings) -> list[dict[str, Any]]:
    """Every dimension that a run sweeps while all others stay put: the places of the runs and ids of the panels."""
    return [
        {
            "run": one.place,
            "method": strings.name(family.method),
            "axis": strings.name(AXES.get(sweep.axis, sweep.axis)),
            "fixed": strings.name(sweep.fixed),
            "panels": [strings.name(standing.panel.id) for _, standing in sweep.panels],
            "values": [number(value) for value, _ in sweep.panels],
        }
        for one in stands
        for family in families(one.standings)
        for sweep in family_sweeps(family.standings)
    ]
