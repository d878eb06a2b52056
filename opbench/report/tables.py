"""A run as tables of text: each panel's contenders against the baseline, and both modes of a workload side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from opbench.analyse.standings import NOT_PLANNED, Contest, Row, Standing
from opbench.quantities import ERROR, MACS, RATIO, SECONDS, Quantity, exact
from opbench.report import numbers
from opbench.report.table import Table
from opbench.schema import Record, Verdict
from opbench.statistics.ratios import METHODS

ERROR_UNIT = ERROR.unit
MACS_UNIT = MACS.note.removesuffix(".")


def contest(contest: Contest) -> Table:
    """One workload at a glance: a row per contender, a column of ratios per mode and timing method."""
    first = contest.standings[0]
    training = next((standing for standing in contest.standings if standing.case.mode == "training"), None)
    timed = [(standing, method) for standing in contest.standings for method in standing.methods or ("",)]
    shown = [(of, name) for of, name in recorded("contest", contest.standings) if training or not of.training]
    header = (
        "contender",
        *(f"{standing.case.mode} {RATIO.title}{suffix(standing, method)}" for standing, method in timed),
        *(heading(name, first) for of, name in shown),
        _heading_of_error("contest"),
        "outcome",
    )
    rows = []
    for contender in contest.contenders():
        present = [row for standing in contest.standings if (row := standing.row(contender))]
        rows.append(
            (
                contender,
                *(latency_ratio(standing.row(contender), method) for standing, method in timed),
                *(cell(of, _telling(of, present, first, training)) for of, _ in shown),
                error(present),
                _joint_outcome(present),
            )
        )
    return Table(header, tuple(rows), note(contest.standings, "contest"))


def panel(standing: Standing) -> Table:
    """One panel: a row per contender, baseline first, then by speed; a failure is a row with its name and message."""
    methods = standing.methods or ("",)
    header = (
        "contender",
        *(f"{what}{suffix(standing, method)}" for method in methods for what in (RATIO.title, SECONDS.title)),
        *(heading(name, standing) for _, name in recorded("panel", [standing])),
        _heading_of_error("panel"),
        "outcome",
    )
    rows = tuple(
        (
            row.case.contender,
            *(text(row, method) for method in methods for text in (latency_ratio, median)),
            *(cell(of, row) for of, _ in recorded("panel", [standing])),
            error([row]),
            outcome(row),
        )
        for row in standing.ranked()
    )
    return Table(header, rows, note([standing], "panel"))


def samples(standing: Standing) -> Table:
    """How each latency of a panel was sampled: rounds, calls per sample, what stopped it, and the first call apart."""
    header = ("contender", "method", "quartiles", "samples", "calls per sample", "stopped by", "first call")
    rows = []
    for row in standing.ranked():
        for latency in row.record.latencies if row.record and row.timings else ():
            quartiles = row.timing(latency.method).latency
            span = (
                f"{numbers.seconds(quartiles.lower_seconds)} to {numbers.seconds(quartiles.upper_seconds)}"
                if quartiles
                else "no usable sample"
            )
            processes = sum(map(bool, latency.samples_seconds))
            count = f"{sum(map(len, latency.samples_seconds))} in {processes} process{'es' if processes > 1 else ''}"
            rows.append(
                (
                    row.case.contender,
                    latency.method,
                    span,
                    count,
                    numbers.exactly(latency.calls_per_sample),
                    latency.stop,
                    numbers.seconds(latency.first_call_seconds),
                )
            )
    return Table(header, tuple(rows), names=(0, 1))


def latency_ratio(row: Row | None, method: str) -> str:
    """The headline cell: `3.21x [3.15, 3.28]`, `baseline`, or the name of what stands in the way."""
    if row is None:
        return NOT_PLANNED
    timing = row.timing(method)
    if row.is_baseline and timing.ratio:
        return "baseline"
    return numbers.ratio(timing.ratio, missing=timing.missing)


def median(row: Row | None, method: str) -> str:
    """The median time of one call."""
    if row is None:
        return NOT_PLANNED
    timing = row.timing(method)
    return numbers.seconds(timing.latency.median_seconds if timing.latency else None, missing=timing.missing)


def heading(name: str, standing: Standing) -> str:
    """A column's heading, with the mode of a panel where it depends on that."""
    return name.format(mode=standing.case.mode)


def cell(of: Quantity, row: Row | None) -> str:
    """A figure of a row, or why there is none; inference keeps nothing for a backward pass by definition."""
    if of.training and row and row.case.mode == "inference":
        return "no backward"
    record = row.record if row else None
    value = of.of(record)
    text = numbers.figure(of, value, _absent(row))
    predicted = of.allocated and record is not None and record.memory is not None and record.memory.predicted
    return f"{text} (predicted)" if predicted and value is not None else text


def _telling(of: Quantity, present: Sequence[Row], first: Standing, training: Standing | None) -> Row | None:
    """Which of a contender's rows tells a quantity: the training one, either, or that of the mode in the heading."""
    if of.training:
        return training.row(present[0].case.contender) if training else None
    return first.row(present[0].case.contender) if "{mode}" in (of.name("contest") or "") else present[0]


def _heading_of_error(medium: str) -> str:
    return ERROR.name(medium) or ERROR.title


def error(rows: Sequence[Row], kind: Literal["max_error", "rms_error"] = "max_error") -> str:
    """The largest error of any verdict on these rows, in units of eps * sum|terms|."""
    errors: list[float] = [getattr(verdict, kind) for row in rows for verdict in verdicts(row.record)]
    if not errors:
        return _absent(rows[0] if rows else None)
    # NaN compares as neither larger nor smaller; it is the worst of all.
    return numbers.plain(max(errors, key=lambda value: (value != value, value)))


def outcome(row: Row) -> str:
    """`correct`, or the failure by name with what it said."""
    return f"{verdict(row)}: {row.message}" if row.outcome != "ok" and row.message else verdict(row)


def verdict(row: Row) -> str:
    """`correct`, or the failure by name."""
    if row.outcome != "ok":
        return row.outcome
    judged = verdicts(row.record)
    if not judged:
        return "ok, not verified"
    return "correct (sampled)" if any(one.sampled for one in judged) else "correct"


def verdicts(record: Record | None) -> tuple[Verdict, ...]:
    """The verdicts before and after timing, those that were reached."""
    both = (record.verdict, record.final_verdict) if record else ()
    return tuple(verdict for verdict in both if verdict)


def _joint_outcome(rows: Sequence[Row]) -> str:
    """One word when the modes agree, otherwise each mode's."""
    texts = {row.case.mode: verdict(row) for row in rows}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "; ".join(f"{mode}: {text}" for mode, text in texts.items())


def _absent(row: Row | None) -> str:
    """Why a row has no number: its failure, or that nobody measured it."""
    if row is None:
        return NOT_PLANNED
    return numbers.NOT_MEASURED if row.outcome == "ok" else row.outcome


def suffix(standing: Standing, method: str) -> str:
    """The timing method in a column's heading, where a panel was timed with more than one."""
    return f" ({method})" if len(standing.methods) > 1 else ""


def note(standings: Sequence[Standing], medium: str) -> str:
    """What the figures of a table mean: how its ratios were found, and what the quantities in it say."""
    rows = [row for standing in standings for row in standing.rows]
    used = dict.fromkeys(timing.ratio.method for row in rows for timing in row.timings if timing.ratio)
    intervals = "; ".join(METHODS[method] for method in used)
    ratio = f"Latency vs baseline: above 1x is slower. In brackets: {intervals}. " if intervals else ""
    return ratio + " ".join(of.note for of, _ in recorded(medium, standings) if of.note)


def recorded(medium: str, standings: Sequence[Standing]) -> list[tuple[Quantity, str]]:
    """The deterministic quantities of a medium, by name, without recent ones that none of the rows has."""
    records = [row.record for standing in standings for row in standing.rows]
    return [
        (of, name)
        for of, name in exact(medium)
        if not of.recent or any(of.of(record) is not None for record in records)
    ]
