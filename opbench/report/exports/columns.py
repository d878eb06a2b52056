"""The columns of CSV and Parquet as data: one row a record, and of a record with several timing methods one a method.

Units are in the names. A figure that was not measured is null (an empty cell), never 0; the `outcome` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec

from opbench.analyse.history.digest import machine_key
from opbench.analyse.standings import Timing
from opbench.quantities import Quantity, exact
from opbench.report.exports.rows import ExportedCase, ExportedRun
from opbench.schema import OpbenchError, Run

Kind = Literal["text", "whole", "real", "truth"]
Cell = str | int | float | bool | None
# What a column of whole numbers holds in either format.
_LARGEST = 2**63 - 1


class ExportRow(msgspec.Struct, frozen=True):
    """What a row is made from. `timing` is None where the case was not timed."""

    run: Run
    one: ExportedCase
    timing: Timing | None


class Column(msgspec.Struct, frozen=True):
    """One column: its name, what it holds, and where that comes from."""

    name: str
    kind: Kind
    value: Callable[[ExportRow], Cell]


def _case(name: str) -> Callable[[ExportRow], Cell]:
    return lambda line: getattr(line.one.case, name)


def _where(name: str) -> Callable[[ExportRow], Cell]:
    return lambda line: getattr(line.run.environment, name)


def _part(part: str, name: str) -> Callable[[ExportRow], Cell]:
    """A field of a part of the record; null where the record has no such part."""

    def value(line: ExportRow) -> Cell:
        held = getattr(line.one.row.record, part)
        found: Cell = None if held is None else getattr(held, name)
        return found

    return value


def _quantities(*parts: str) -> Iterator[Column]:
    """A column for each deterministic quantity that one of these parts of the record holds ("": it is computed)."""
    for of, name in exact("csv"):
        if of.part in parts:
            yield Column(name, "whole", _figure(of))


def _figure(of: Quantity) -> Callable[[ExportRow], Cell]:
    return lambda line: of.of(line.one.row.record)


def _timing(part: str, name: str) -> Callable[[ExportRow], Cell]:
    def value(line: ExportRow) -> Cell:
        held = getattr(line.timing, part) if line.timing else None
        found: Cell = None if held is None else getattr(held, name)
        return found

    return value


def _latency(name: str) -> Callable[[ExportRow], Cell]:
    def value(line: ExportRow) -> Cell:
        found: Cell = getattr(line.one.latency(line.timing.method), name) if line.timing else None
        return found

    return value


def _dims(line: ExportRow) -> Cell:
    return " ".join(f"{name}={size}" for name, size in (*line.one.case.dims.items(), *line.one.case.settings.items()))


COLUMNS: tuple[Column, ...] = (
    Column("started", "text", lambda line: line.run.started),
    Column("commit", "text", _where("commit")),
    Column("dirty", "truth", _where("dirty")),
    Column("suite", "text", lambda line: line.run.settings.suite),
    Column("machine", "text", lambda line: machine_key(line.run.environment)),
    Column("cpu", "text", _where("cpu")),
    Column("gpu", "text", _where("gpu")),
    Column("threads", "whole", _where("threads")),
    Column("torch", "text", lambda line: line.run.environment.versions.get("torch")),
    Column("case", "text", lambda line: line.one.case.id),
    Column("panel", "text", lambda line: line.one.standing.panel.id),
    Column("task", "text", _case("task")),
    Column("workload", "text", _case("workload")),
    Column("contender", "text", _case("contender")),
    Column("operator", "text", _case("operator")),
    Column("implementation", "text", _case("implementation")),
    Column("dims", "text", _dims),
    Column("dtype", "text", _case("dtype")),
    Column("device", "text", _case("device")),
    Column("mode", "text", _case("mode")),
    Column("runtime", "text", _case("runtime")),
    Column("memory_format", "text", _case("memory_format")),
    Column("offset_spread_pixels", "real", _case("spread")),
    Column("seed", "whole", _case("seed")),
    Column("baseline", "text", lambda line: line.one.standing.panel.baseline or None),
    Column("is_baseline", "truth", lambda line: line.one.row.is_baseline),
    Column("outcome", "text", lambda line: line.one.row.outcome),
    Column("message", "text", lambda line: line.one.row.message),
    Column("correct", "truth", _part("verdict", "correct")),
    Column("worst_error_over_bound", "real", _part("verdict", "worst_ratio")),
    Column("max_error_eps", "real", _part("verdict", "max_error")),
    Column("rms_error_eps", "real", _part("verdict", "rms_error")),
    *_quantities("counts"),
    Column("memory_method", "text", _part("memory", "method")),
    *_quantities("memory", ""),
    Column("memory_predicted", "truth", _part("memory", "predicted")),
    Column("timing_method", "text", lambda line: line.timing.method if line.timing else None),
    Column("calls_per_sample", "whole", _latency("calls_per_sample")),
    Column("samples", "whole", _timing("latency", "samples")),
    Column("stop", "text", _latency("stop")),
    Column("first_call_seconds", "real", _latency("first_call_seconds")),
    Column("latency_lower_quartile_seconds", "real", _timing("latency", "lower_seconds")),
    Column("latency_median_seconds", "real", _timing("latency", "median_seconds")),
    Column("latency_upper_quartile_seconds", "real", _timing("latency", "upper_seconds")),
    Column("latency_ratio", "real", _timing("ratio", "value")),
    Column("latency_ratio_low", "real", _timing("ratio", "low")),
    Column("latency_ratio_high", "real", _timing("ratio", "high")),
    Column("latency_ratio_interval", "text", _timing("ratio", "method")),
    Column("rounds", "whole", _timing("ratio", "rounds")),
    Column("processes", "whole", _timing("ratio", "processes")),
)


def cells(runs: Sequence[ExportedRun]) -> Iterator[tuple[Cell, ...]]:
    """The rows of all runs, in the order of `COLUMNS`."""
    for found in runs:
        for one in found.cases:
            for timing in one.row.timings or (None,):
                line = ExportRow(found.run, one, timing)
                yield tuple(_checked(column, column.value(line)) for column in COLUMNS)


def _checked(column: Column, cell: Cell) -> Cell:
    """A whole number that no 64-bit column holds comes from no measurement: refused, not rounded."""
    if column.kind == "whole" and isinstance(cell, int) and abs(cell) > _LARGEST:
        raise OpbenchError(f"column {column.name}: {cell} does not fit into 64 bits")
    return cell
