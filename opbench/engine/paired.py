"""Two revisions side by side on one machine: a worker process each, given turns round after round in random order.

Whatever the machine does in between falls on either revision with equal chance. Fresh pairs of workers repeat the
whole, because where a process lays its memory stays the same as long as it lives; they take turns at starting first.
A round in which either waited for a core is taken again, and left out where it stays so. The result is two run
documents whose rounds pair up: round r of process p of one was taken beside round r of process p of the other.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import random
import time
import uuid
from collections.abc import Callable, Sequence

import msgspec

from opbench.engine.environment import environment
from opbench.engine.paired_record import CaseInTurns, RevisionSide, TakenProcess
from opbench.engine.paired_watch import PairedWatch
from opbench.engine.revision_worker import CheckedAgain, Prepared, TimedBlock, Unknown, WorkerLostError
from opbench.engine.revisions import Revision
from opbench.measure import pinning
from opbench.measure.disturbance import enough
from opbench.measure.pairs import Rounds, TimedTurn, Turn, take_turns
from opbench.schema import PAIRED, Case, Plan, Record, Run, Settings, Verdict
from opbench.statistics.shifts import LEAST_CLEAN

# Short, so that a block comes through whole now and then beside a busy process; a longer call is a block by itself.
SHORTEST_BLOCK_SECONDS = 1e-3
# No call is faster: a clock that stands still would ask for calls without end.
FASTEST_CALL_SECONDS = 1e-7
# Seconds that building, checking and counting one case may take.
LONGEST_PREPARATION = 600.0

Sides = tuple[RevisionSide, RevisionSide]


def measure_paired(
    base: Revision,
    head: Revision,
    plan: Plan,
    settings: Settings,
    *,
    threads: int,
    command: str,
    progress: Callable[[int, int, str], None],
) -> tuple[Run, Run]:
    """Measures every case of the plan in both revisions; two documents whose rounds pair up.

    settings.budget_seconds is per case, over all `replicas` of the settings. A case that is wrong or fails in either is
    not timed.
    """
    began = time.perf_counter()
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    chosen = pinning.choose(threads)
    sides = (RevisionSide(base, threads, chosen), RevisionSide(head, threads, chosen))
    cases = [CaseInTurns(case) for panel in plan.panels for case in panel.cases]
    replicas = settings.replicas
    with contextlib.closing(PairedWatch()) as watch:
        try:
            for replica in range(replicas):
                for side in _starting(sides, replica):
                    side.start()
                for index, case in enumerate(cases):
                    progress(replica * len(cases) + index, replicas * len(cases), case.case.id)
                    _measure(case, sides, settings, replica, watch)
        finally:
            for side in sides:
                side.stop()
    for case in cases:
        for side in sides:
            side.conclude(case, replicas)
    here = environment()
    details = {**here.details, PAIRED: uuid.uuid4().hex, pinning.PINNED: chosen.said}
    first, second = (
        side.document(
            plan.panels,
            settings,
            msgspec.structs.replace(here, details=details),
            command=command,
            started=started,
            seconds=time.perf_counter() - began,
            cases=cases,
        )
        for side in sides
    )
    return first, second


def _starting(sides: Sides, replica: int) -> Sequence[RevisionSide]:
    """Who starts first: one after the other, so that neither always finds the machine as the other left it."""
    return sides if replica % 2 == 0 else sides[::-1]


def _measure(case: CaseInTurns, sides: Sides, settings: Settings, replica: int, watch: PairedWatch) -> None:
    """One case in one pair of processes; a failure of either costs the case, and that worker starts anew."""
    name = case.case.id
    if any(side.failed(name) for side in sides):
        return
    prepared = [_prepare(side, case.case, count=replica == 0) for side in _starting(sides, replica)]
    seconds = [answer.seconds for answer in prepared if answer is not None and answer.seconds is not None]
    if len(seconds) < len(sides):
        return
    slowest = max(*seconds, FASTEST_CALL_SECONDS)
    # One number of calls for both: a block of either is the same work.
    case.calls = case.calls or max(1, math.ceil(SHORTEST_BLOCK_SECONDS / slowest))
    patience = 60 + 100 * case.calls * slowest
    watch.forget()
    try:
        rounds = take_turns(
            *(_turn(side, case.calls, patience, watch) for side in sides),
            precision=settings.precision,
            budget_seconds=settings.budget_seconds / settings.replicas,
            order=random.Random(f"{settings.seed}/{name}/{replica}"),
        )
        verdicts = [_check_again(side, patience) for side in sides]
    except WorkerLostError as error:
        for side in sides:
            side.records[name] = Record(case.case, error.outcome, f"{error}; in one of the two revisions")
            side.stop()
        return
    case.stop = "budget" if case.stop == "budget" else rounds.stop
    for side, verdict, taken in zip(sides, verdicts, _taken(case, rounds, watch), strict=True):
        record = msgspec.structs.replace(side.records[name], final_verdict=verdict)
        if not verdict.correct:
            record = msgspec.structs.replace(record, outcome="incorrect", message=verdict.reason)
        side.records[name] = record
        side.taken.setdefault(name, []).append(taken)


def _taken(case: CaseInTurns, rounds: Rounds, watch: PairedWatch) -> tuple[TakenProcess, TakenProcess]:
    """What either side's document holds of one process: too few undisturbed rounds are none."""
    total = len(rounds.first)
    left_out = tuple(rounds.interrupted)
    if not enough(rounds.clean, total, LEAST_CLEAN):
        left_out = tuple(range(total))
        case.seen.append(f"{watch.why}, in {len(rounds.interrupted)} of {total} rounds")
    first, second = (
        TakenProcess(
            tuple(value / case.calls if value > 0 else math.nan for value in samples),
            tuple(round(1000 * share) for share in waited),
            left_out,
        )
        for samples, waited in ((rounds.first, rounds.first_waited), (rounds.second, rounds.second_waited))
    )
    return first, second


def _prepare(side: RevisionSide, case: Case, *, count: bool) -> Prepared | None:
    """The worker's answer, with the record kept; None where this revision doesn't know the case or lost its worker."""
    try:
        answer = side.ask(LONGEST_PREPARATION, do="prepare", case=case, count=count)
    except WorkerLostError as error:
        side.records[case.id] = Record(case, error.outcome, str(error))
        side.stop()
        return None
    if isinstance(answer, Unknown):
        return None
    assert isinstance(answer, Prepared)
    if count or answer.record.outcome != "ok":
        side.records[case.id] = answer.record
    side.first_calls.setdefault(case.id, answer.first_call)
    return answer


def _turn(side: RevisionSide, calls: int, patience: float, watch: PairedWatch) -> Turn:
    def turn() -> TimedTurn:
        watch.before()
        answer = side.ask(patience, do="block", calls=calls)
        assert isinstance(answer, TimedBlock)
        return watch.judge(answer)

    return turn


def _check_again(side: RevisionSide, patience: float) -> Verdict:
    answer = side.ask(patience, do="finish")
    assert isinstance(answer, CheckedAgain)
    return answer.verdict
