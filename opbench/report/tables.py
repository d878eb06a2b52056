"""A run as tables of text: each panel's contenders against the baseline, and both modes of a workload side by side.

Cells are plain text, not yet escaped for any medium: names, sources and messages come from the document and may hold
anything. Whoever prints a table escapes every cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from opbench.analyse.standings import NOT_PLANNED, Contest, Row, Standing
from opbench.report import numbers
from opbench.schema import Record, Verdict
from opbench.statistics.ratios import METHODS

ERROR_UNIT = "eps·Σ|terms|"
MACS_UNIT = "1 MAC = 2 FLOPs"


class Table(msgspec.Struct, frozen=True):
    """Text in rows. `names` are the columns that hold identifiers; `note` says what the numbers mean."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    names: tuple[int, ...] = (0,)


def contest(contest: Contest) -> Table:
    """One workload at a glance: a row per contender, a column of ratios per mode and timing method."""
    first = contest.standings[0]
    training = next((standing for standing in contest.standings if standing.case.mode == "training"), None)
    timed = [(standing, method) for standing in contest.standings for method in standing.methods or ("",)]
    header = (
        "contender",
        *(f"{standing.case.mode} latency vs baseline{suffix(standing, method)}" for standing, method in timed),
        "params",
        f"MACs ({first.case.mode})",
        f"peak memory ({first.case.mode})",
        *(["saved for backward"] if training else []),
        f"max error ({ERROR_UNIT})",
        "outcome",
    )
    rows = []
    for contender in contest.contenders():
        present = [row for standing in contest.standings if (row := standing.row(contender))]
        leading = first.row(contender)
        rows.append(
            (
                contender,
                *(latency_ratio(standing.row(contender), method) for standing, method in timed),
                params(present[0]),
                macs(leading),
                peak(leading),
                *([saved(training.row(contender))] if training else []),
                error(present),
                _joint_outcome(present),
            )
        )
    return Table(header, tuple(rows), _note([row for standing in contest.standings for row in standing.rows]))


def panel(standing: Standing) -> Table:
    """One panel: a row per contender, baseline first, then by speed; a failure is a row with its name and message."""
    methods = standing.methods or ("",)
    header = (
        "contender",
        *(
            f"{what}{suffix(standing, method)}"
            for method in methods
            for what in ("latency vs baseline", "median latency")
        ),
        "params",
        f"MACs ({standing.case.mode})",
        "peak memory",
        "saved for backward",
        f"max error ({ERROR_UNIT})",
        "outcome",
    )
    rows = tuple(
        (
            row.case.contender,
            *(cell(row, method) for method in methods for cell in (latency_ratio, median)),
            params(row),
            macs(row),
            peak(row),
            saved(row),
            error([row]),
            outcome(row),
        )
        for row in standing.ranked()
    )
    return Table(header, rows, _note(standing.rows))


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
            processes = len(latency.samples_seconds)
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


def params(row: Row | None) -> str:
    """Parameters, to the last one."""
    counts = row.record.counts if row and row.record else None
    return numbers.exactly(counts.params if counts else None, missing=_absent(row))


def macs(row: Row | None) -> str:
    """The closed form of one call's multiply-accumulates."""
    counts = row.record.counts if row and row.record else None
    return numbers.macs(counts.macs if counts else None, missing=_absent(row))


def peak(row: Row | None) -> str:
    """Peak bytes above inputs and parameters."""
    memory = row.record.memory if row and row.record else None
    text = numbers.size(memory.peak_bytes if memory else None, missing=_absent(row))
    return f"{text} (predicted)" if memory and memory.predicted and memory.peak_bytes is not None else text


def saved(row: Row | None) -> str:
    """Bytes kept for backward; inference keeps none by definition."""
    if row and row.case.mode == "inference":
        return "no backward"
    memory = row.record.memory if row and row.record else None
    text = numbers.size(memory.saved_bytes if memory else None, missing=_absent(row))
    return f"{text} (predicted)" if memory and memory.predicted and memory.saved_bytes is not None else text


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


def _note(rows: Sequence[Row]) -> str:
    used = dict.fromkeys(timing.ratio.method for row in rows for timing in row.timings if timing.ratio)
    intervals = "; ".join(METHODS[method] for method in used)
    ratio = f"Latency vs baseline: above 1x is slower. In brackets: {intervals}. " if intervals else ""
    return f"{ratio}{MACS_UNIT}. Memory is above inputs and parameters."
