"""What stands behind the comparison, as tables: counts three ways, failures, skips, environment."""

from __future__ import annotations

from collections.abc import Sequence

from opbench.analyse.standings import NOT_RUN, Row, Standing
from opbench.plural import counted
from opbench.report import numbers
from opbench.report.table import Table
from opbench.report.tables import MACS_UNIT, verdicts
from opbench.schema import Counted, Counts, Run


def tally(standings: Sequence[Standing], run: Run) -> str:
    """One line: `12 cases: 10 ok, 1 incorrect, 1 not-run; 3 skipped`."""
    outcomes = [row.outcome for standing in standings for row in standing.rows]
    parts = [f"{outcomes.count(name)} {name}" for name in sorted(set(outcomes), key=lambda name: (name != "ok", name))]
    return f"{counted(len(outcomes), 'case')}: {', '.join(parts) or 'none planned'}; {len(run.skipped)} skipped"


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
        groups.setdefault((skip.panel, skip.reason), []).append(skip.contender)
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
        *((("visits", f"{settings.replicas} of each panel, in fresh processes"),) if settings.replicas > 1 else ()),
        ("seed", numbers.exactly(settings.seed)),
        *((f"only {name}", ", ".join(values)) for name, values in sorted(settings.filters.items())),
        *(("extension", path) for path in settings.extensions),
    ]
    return Table(("what", "value"), tuple(rows), names=())


def remarks(standing: Standing) -> tuple[tuple[str, str], ...]:
    """(contender, why a figure of it is missing, or what was noted beside it), as the meters said."""
    found = []
    for row in standing.rows:
        if row.record and row.record.memory and row.record.memory.note:
            found.append((row.case.contender, f"memory: {row.record.memory.note}"))
        if row.record:
            found += [(row.case.contender, note) for note in row.record.notes]
    return tuple(found)


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
