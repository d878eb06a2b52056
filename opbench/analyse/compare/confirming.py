"""Confirmation: a row that is called regressed or improved is measured again, in fresh processes.

The same code in two processes differs, by where each lays its memory and its code. Three pairs of processes show that
difference and can agree by chance. So what they call is asked of `PROCESSES` more, which take turns at starting
first, and it counts where all but one of them say the same by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec.structs import replace

from opbench.analyse.compare.nouns import ComparedCase, Comparison, Confirmation, Time
from opbench.schema import Case, Record, Run
from opbench.statistics.ratios import paired_log_ratios, saturating_exp
from opbench.statistics.shifts import shift

PROCESSES = 5
# Of identical code whose processes differ by 4.5 % (the most that has been seen) four of five lie 2 % to the same given
# side once in 25 times, and only rows that were called are asked; of a true 5 % they agree 99 times in 100 where
# processes differ by 1.5 %.
AGREEING = 4


def called(comparison: Comparison) -> tuple[Case, ...]:
    """The cases whose time is said to have changed, and that no waiver covers."""
    return tuple(row.case for row in comparison.rows if any(time.called and not time.allowed for time in row.times))


def confirmed(comparison: Comparison, base: Run, head: Run) -> Comparison:
    """The comparison with what a second measurement of its called rows said of each; its rounds pair up."""
    ours, theirs = ({record.case.id: record for record in run.records} for run in (base, head))
    asked = head.settings.replicas
    rows = [_row(row, ours.get(row.case.id), theirs.get(row.case.id), asked) for row in comparison.rows]
    return replace(comparison, rows=tuple(rows))


def _row(row: ComparedCase, base: Record | None, head: Record | None, asked: int) -> ComparedCase:
    # What fails when it is measured again is bad news by itself, and no reason to let the row pass.
    failed = any(record and record.outcome not in ("ok", "disturbed") for record in (base, head))
    times = [
        _judged(time, _ask(time, base, head, asked), failed) if time.called and not time.allowed else time
        for time in row.times
    ]
    return replace(row, times=tuple(times))


def _judged(time: Time, found: Confirmation, failed: bool) -> Time:
    """What isn't confirmed is no change: nobody knows whether it is one."""
    decision = time.decision if found.confirmed or failed else "undecided"
    return replace(time, confirmation=found, decision=decision)


def _ask(time: Time, base: Record | None, head: Record | None, asked: int) -> Confirmation:
    failed = next((record for record in (base, head) if record is None or record.outcome != "ok"), None)
    if base is None or head is None or failed is not None:
        why = f"{failed.outcome}: {failed.message}" if failed else "it was not measured again"
        return Confirmation(time.decision, asked, 0, False, why_not=why)
    shifts = _shifts(time.method, base, head)
    least = math.log1p(time.least)
    if time.decision == "regressed":
        agreed = sum(value > least for value in shifts)
    else:
        agreed = sum(value < -least for value in shifts)
    needed = min(AGREEING, asked)
    few = f"disturbed in {asked - len(shifts)} of {asked} processes" if len(shifts) < needed else ""
    ratios = tuple(map(saturating_exp, shifts))
    return Confirmation(time.decision, asked, agreed, agreed >= needed, ratios, few)


def _shifts(method: str, base: Record, head: Record) -> Sequence[float]:
    """log(head / base) of each process that has rounds."""
    ours, theirs = (
        next((latency for latency in record.latencies if latency.method == method), None) for record in (base, head)
    )
    if ours is None or theirs is None:
        return ()
    return [shift(rounds).value for rounds in paired_log_ratios(theirs, ours) if len(rounds) > 1]
