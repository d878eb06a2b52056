"""How close each contender comes to what the machine can do, and to the exact answer: roofline fraction and error."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence

from opbench.analyse.standings import NOT_PLANNED, Row, Standing
from opbench.quantities import MIN_BYTES
from opbench.report import numbers
from opbench.report.table import Table
from opbench.report.tables import ERROR_UNIT, MACS_UNIT, error, verdicts
from opbench.schema import Run
from opbench.statistics.ratios import Quartiles
from opbench.statistics.roofline import TOO_LOW, Roofline, roofline, usable

ROOFLINE_NOTE = (
    "Roofline: the least time that the slower of two limits allows, over the median latency. The limits are the bytes "
    "at the machine's copy rate and the MACs at the rate of its matrix product, both measured in this run. Least "
    "traffic moves every input, parameter and output once; in training twice that, since the backward pass reads the "
    "output's gradient and writes one of every input and parameter. What exceeds its limit shows that the limit "
    "was too low, as the copy of older runs is for data that stay in a cache."
)
ERROR_NOTE = (
    f"Error against the float64 definition in {ERROR_UNIT}, of the output: the largest, and the root mean square."
)


def limits(standing: Standing, run: Run) -> Table:
    """One panel: what each contender reaches of the machine's rates, and how far it is from the definition."""
    header = (
        "contender",
        MIN_BYTES.title,
        "MACs per byte",
        "of copy rate",
        "of matmul rate",
        "of roofline",
        f"max error ({ERROR_UNIT})",
        f"RMS error ({ERROR_UNIT})",
    )
    rows, rates = [], ""
    for row in standing.ranked():
        limit, latency = _reached(row, standing, run)
        if limit is None or latency is None:
            continue
        time = latency.median_seconds
        rows.append(
            (
                row.case.contender,
                numbers.size(limit.bytes),
                numbers.plain(limit.macs / limit.bytes),
                numbers.share(limit.bytes / time, limit.copy_rate),
                numbers.share(limit.macs / time, limit.matmul_rate),
                of_roofline(limit, time),
                error([row]),
                error([row], "rms_error"),
            )
        )
        copy, matmul = numbers.rate(limit.copy_rate, "bytes/second"), numbers.rate(limit.matmul_rate, "macs/second")
        rates = f"In {standing.case.dtype} this machine copies {copy} and multiplies {matmul} ({MACS_UNIT})."
    return Table(header, tuple(rows), rates)


def across(standings: Sequence[Standing], run: Run) -> Iterator[tuple[str, Table, Table]]:
    """By task: its name, every panel's roofline fractions and every panel's errors, a column for each contender."""
    for task, group in itertools.groupby(standings, key=lambda standing: standing.case.task):
        panels = tuple(group)
        contenders = tuple(dict.fromkeys(row.case.contender for panel in panels for row in panel.rows))

        def table(note: str, cell: Callable[[Row, Standing], str]) -> Table:
            rows = []
            for panel in panels:  # noqa: B023  # used up within the iteration
                found = {row.case.contender: cell(row, panel) for row in panel.rows}
                cells = (found.get(name, NOT_PLANNED) for name in contenders)  # noqa: B023
                rows.append((panel.panel.id.partition("/")[2], *cells))
            return Table(("panel", *contenders), tuple(rows), note)  # noqa: B023

        yield task, table(ROOFLINE_NOTE, lambda row, panel: fraction(row, panel, run)), table(ERROR_NOTE, errors)


def fraction(row: Row, standing: Standing, run: Run) -> str:
    """`31 %` of the roofline, or why there is no such figure."""
    limit, latency = _reached(row, standing, run)
    if limit is None or latency is None:
        return numbers.NOT_MEASURED if row.outcome == "ok" else row.outcome
    return of_roofline(limit, latency.median_seconds)


def of_roofline(limit: Roofline | None, seconds: float | None) -> str:
    """`31 %`; `104 %, limit too low` where the time is below the least: then it is the limit that is wrong."""
    said = numbers.share(limit.seconds if limit else None, seconds)
    return f"{said}, {TOO_LOW}" if limit and seconds and seconds < limit.seconds else said


def errors(row: Row, standing: Standing) -> str:
    """`0.41, RMS 0.08`, or why there is no such figure."""
    if not verdicts(row.record):
        return error([row])
    return f"{error([row])}, RMS {error([row], 'rms_error')}"


def yardsticks(run: Run) -> Table:
    """The machine's own limits, measured in the same run."""
    rows = []
    for found in run.yardsticks:
        samples = usable(found)
        low, high = (min(samples), max(samples)) if samples else (None, None)
        rows.append(
            (
                found.name,
                found.device,
                found.dtype,
                numbers.rate(statistics.median(samples) if samples else None, found.unit),
                f"{numbers.rate(low, found.unit)} to {numbers.rate(high, found.unit)}",
                numbers.exactly(len(found.samples)),
            )
        )
    return Table(("yardstick", "device", "dtype", "median", "range", "samples"), tuple(rows))


def _reached(row: Row, standing: Standing, run: Run) -> tuple[Roofline | None, Quartiles | None]:
    method = standing.methods[0] if standing.methods else ""
    counts = row.record.counts if row.record else None
    return roofline(run.yardsticks, row.case, counts), row.timing(method).latency
