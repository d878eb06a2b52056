"""What stands behind the comparison, as tables: counts three ways, machine limits, failures, skips, environment."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from opbench.analyse.standings import NOT_RUN, Row, Standing
from opbench.report import numbers
from opbench.report.tables import MACS_UNIT, Table, verdicts
from opbench.schema import Counted, Counts, Device, DType, Run, Yardstick

MESSAGE_LIMIT = 300


def tally(standings: Sequence[Standing], run: Run) -> str:
    """One line: `12 cases: 10 ok, 1 incorrect, 1 not-run; 3 skipped`."""
    outcomes = [row.outcome for standing in standings for row in standing.rows]
    parts = [f"{outcomes.count(name)} {name}" for name in sorted(set(outcomes), key=lambda name: (name != "ok", name))]
    return f"{len(outcomes)} cases: {', '.join(parts) or 'none planned'}; {len(run.skipped)} skipped"


def failures(standings: Sequence[Standing]) -> Table:
    """Every case that is not `ok`: its name, what it said, and the worst element of a wrong answer."""
    rows = tuple(
        (row.case.id, row.outcome, row.message or _silence(row), _worst(row))
        for standing in standings
        for row in standing.rows
        if row.outcome != "ok"
    )
    return Table(("case", "outcome", "message", "worst element"), rows)


def skipped(run: Run) -> Table:
    """Every case that was planned away: the contenders of a panel that share a reason stand together."""
    groups: dict[tuple[str, str], list[str]] = {}
    for skip in run.skipped:
        panel, _, contender = skip.case.rpartition("/")
        groups.setdefault((panel, skip.reason), []).append(contender)
    rows = tuple((panel or "unnamed", ", ".join(names), reason) for (panel, reason), names in groups.items())
    return Table(("panel", "contenders", "reason"), rows, names=(0, 1))


def counts(standings: Sequence[Standing]) -> Table:
    """MACs three ways, and what the unaided counters see. Cases that count alike share a row."""
    rows: dict[tuple[str, ...], None] = {}
    for standing in standings:
        for row in standing.rows:
            found = row.record.counts if row.record else None
            if found:
                case = row.case
                place = f"{case.workload} ({case.mode})"
                rows[(case.contender, place, *_three_ways(found), *_unaided(found))] = None
    header = (
        "contender",
        "workload",
        "closed form",
        "torch counter",
        "fvcore",
        "agree",
        "unaccounted by torch",
        "unaccounted by fvcore",
        "stock torch sees",
        "stock fvcore sees",
    )
    note = (
        f"MACs; {MACS_UNIT}. Closed form, torch's FlopCounterMode and fvcore, both taught the operators they miss; "
        "unaccounted operations have no formula and are elementwise work or a miss of the counter. Stock: the same "
        "counters without our formulas."
    )
    return Table(header, tuple(rows), note, names=(0, 1))


def limits(standing: Standing, run: Run) -> Table:
    """How close each contender of an inference panel comes to what the machine can do (the roofline)."""
    case = standing.case
    copy, matmul = yardstick(run, "copy", case.device, case.dtype), yardstick(run, "matmul", case.device, case.dtype)
    header = ("contender", "least traffic", "MACs per byte", "of copy rate", "of matmul rate", "of roofline")
    if case.mode != "inference" or copy is None or matmul is None or not standing.methods:
        return Table(header, ())
    rows = []
    for row in standing.ranked():
        found = row.record.counts if row.record else None
        latency = row.timing(standing.methods[0]).latency
        if found is None or latency is None or not found.min_bytes:
            continue
        time = latency.median_seconds
        least = max(found.min_bytes / copy, found.macs / matmul)
        rows.append(
            (
                row.case.contender,
                numbers.size(found.min_bytes),
                numbers.plain(found.macs / found.min_bytes),
                numbers.share(found.min_bytes / time, copy),
                numbers.share(found.macs / time, matmul),
                numbers.share(least, time),
            )
        )
    rates = f"copies {numbers.rate(copy, 'bytes/second')} and multiplies {numbers.rate(matmul, 'macs/second')}"
    note = (
        f"This machine {rates} ({MACS_UNIT}). Least traffic moves every input, parameter and output once. Roofline: "
        "the time that the slower of the two limits allows; inputs that stay in a cache can exceed the copy rate."
    )
    return Table(header, tuple(rows), note)


def yardsticks(run: Run) -> Table:
    """The machine's own limits, measured in the same run."""
    rows = []
    for found in run.yardsticks:
        usable = _usable(found)
        low, high = (min(usable), max(usable)) if usable else (None, None)
        rows.append(
            (
                found.name,
                found.device,
                found.dtype,
                numbers.rate(_median(found), found.unit),
                f"{numbers.rate(low, found.unit)} to {numbers.rate(high, found.unit)}",
                numbers.exactly(len(found.samples)),
            )
        )
    return Table(("yardstick", "device", "dtype", "median", "range", "samples"), tuple(rows))


def yardstick(run: Run, name: str, device: Device, dtype: DType) -> float | None:
    """The median rate of one yardstick; None where the run did not measure it."""
    for found in run.yardsticks:
        if (found.name, found.device, found.dtype) == (name, device, dtype):
            return _median(found)
    return None


def environment(run: Run) -> Table:
    """Where and how the run was taken."""
    where, settings = run.environment, run.settings
    dirty = {True: " with uncommitted changes", False: "", None: " (unknown whether clean)"}[where.dirty]
    rows = [
        ("machine", where.machine),
        ("CPU", where.cpu),
        ("cores", f"{where.cores}, {where.threads} threads used"),
        ("memory", numbers.size(where.memory_bytes)),
        ("GPU", where.gpu or "none"),
        ("platform", where.platform),
        ("Python", where.python),
        ("commit", f"{where.commit}{dirty}" if where.commit else "unknown"),
        *((name, version) for name, version in sorted(where.versions.items())),
        *sorted(where.details.items()),
        ("started", run.started),
        ("wall time", f"{numbers.seconds(run.wall_seconds)}, of it {numbers.seconds(run.called_seconds)} in calls"),
        ("suite", settings.suite),
        ("asked precision", f"{numbers.plain(100 * settings.precision)} % of the ratio"),
        ("budget", f"{numbers.seconds(settings.budget_seconds)} a panel"),
        ("seed", numbers.exactly(settings.seed)),
        *((f"only {name}", ", ".join(values)) for name, values in sorted(settings.filters.items())),
        *(("extension", path) for path in settings.extensions),
    ]
    return Table(("what", "value"), tuple(rows), names=())


def remarks(standing: Standing) -> tuple[tuple[str, str], ...]:
    """(contender, why a figure of it is missing), as the meters said."""
    return tuple(
        (row.case.contender, f"memory: {row.record.memory.note}")
        for row in standing.rows
        if row.record and row.record.memory and row.record.memory.note
    )


def _three_ways(counts: Counts) -> tuple[str, str, str, str, str, str]:
    counters = {"torch": counts.torch, "fvcore": counts.fvcore}
    wrong = [name for name, seen in counters.items() if seen.macs is not None and seen.macs != counts.macs]
    blind = [name for name, seen in counters.items() if seen.macs is None]
    if wrong:
        agree = f"NO: {', '.join(wrong)}"
    elif len(blind) == len(counters):
        agree = "nothing to compare"
    else:
        agree = f"yes, without {blind[0]}" if blind else "yes"
    return (
        numbers.exactly(counts.macs),
        _seen(counts.torch),
        _seen(counts.fvcore),
        agree,
        _unaccounted(counts.torch),
        _unaccounted(counts.fvcore),
    )


def _unaided(counts: Counts) -> tuple[str, str]:
    def cell(seen: Counted) -> str:
        if seen.macs is None or not counts.macs:
            return _seen(seen)
        return f"{numbers.macs(seen.macs)} ({numbers.share(seen.macs, counts.macs)})"

    return cell(counts.stock_torch), cell(counts.stock_fvcore)


def _seen(seen: Counted) -> str:
    return numbers.exactly(seen.macs, missing=seen.note or numbers.NOT_MEASURED)


def _unaccounted(seen: Counted) -> str:
    if seen.macs is None:
        return numbers.NOT_MEASURED
    return ", ".join(f"{name} x{times}" for name, times in sorted(seen.unaccounted.items())) or "nothing"


def _silence(row: Row) -> str:
    return "the run ended before it" if row.outcome == NOT_RUN else "no message"


def _worst(row: Row) -> str:
    for verdict in verdicts(row.record):
        if not verdict.correct:
            worst = verdict.worst
            if worst is None:
                return f"error {numbers.plain(verdict.worst_ratio)} x bound"
            index = ", ".join(map(str, worst.index))
            return (
                f"{worst.tensor}[{index}]: expected {numbers.plain(worst.expected, digits=6)}, "
                f"got {numbers.plain(worst.got, digits=6)}, error {numbers.plain(verdict.worst_ratio)} x bound"
            )
    return "none judged"


def _usable(found: Yardstick) -> list[float]:
    return [sample for sample in found.samples if 0 < sample < math.inf]


def _median(found: Yardstick) -> float | None:
    usable = _usable(found)
    return statistics.median(usable) if usable else None
