"""Two revisions side by side on one machine: a worker process each, given turns round after round in random order.

Whatever the machine does in between falls on either revision with equal chance. Fresh pairs of workers repeat the
whole, because where a process lays its memory stays the same as long as it lives. The result is two run documents
whose rounds pair up: round r of process p of one was taken beside round r of process p of the other.
"""

from __future__ import annotations

import datetime
import math
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from opbench.engine.environment import environment
from opbench.engine.revision_worker import (
    Answer,
    CheckedAgain,
    Prepared,
    RevisionWorker,
    TimedBlock,
    Unknown,
    WorkerLostError,
)
from opbench.engine.revisions import Revision
from opbench.measure.pairs import Rounds, Turn, take_turns
from opbench.schema import (
    PAIRED,
    SCHEMA_VERSION,
    Case,
    Latency,
    Panel,
    Plan,
    Record,
    Run,
    Settings,
    Verdict,
)
from opbench.statistics.shifts import LEAST_CLEAN

# Short, so that a block comes through whole now and then beside a busy process; a longer call is a block by itself.
SHORTEST_BLOCK_SECONDS = 1e-3
# Seconds that building, checking and counting one case may take.
LONGEST_PREPARATION = 600.0
METHOD = "cpu-wall"


@dataclass
class _RevisionSide:
    """One revision while the panels run: its worker, and per case the record and samples so far."""

    revision: Revision
    threads: int
    worker: RevisionWorker | None = None
    records: dict[str, Record] = field(default_factory=dict)
    latencies: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)
    first_calls: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        self.stop()
        self.worker = RevisionWorker(self.revision, self.threads)

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.close()
        self.worker = None

    def ask(self, seconds: float, **request: Any) -> Answer:
        if self.worker is None:
            self.worker = RevisionWorker(self.revision, self.threads)
        return self.worker.ask(seconds, **request)


def measure_paired(
    base: Revision,
    head: Revision,
    plan: Plan,
    settings: Settings,
    *,
    replicas: int,
    threads: int,
    command: str,
    progress: Callable[[int, int, str], None],
) -> tuple[Run, Run]:
    """Measures every case of the plan in both revisions; two documents whose rounds pair up.

    settings.budget_seconds is per case, over all replicas. A case that is wrong or fails in either is not timed.
    """
    began = time.perf_counter()
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    sides = (_RevisionSide(base, threads), _RevisionSide(head, threads))
    cases = [case for panel in plan.panels for case in panel.cases]
    calls: dict[str, int] = {}
    stops: dict[str, str] = {}
    try:
        for replica in range(replicas):
            for side in sides:
                side.start()
            for index, case in enumerate(cases):
                progress(replica * len(cases) + index, replicas * len(cases), case.id)
                _measure(case, sides, settings, replica, replicas, calls, stops)
    finally:
        for side in sides:
            side.stop()
    token = uuid.uuid4().hex
    seconds = time.perf_counter() - began
    first, second = (
        _document(side, plan.panels, settings, token, command, started, seconds, calls, stops) for side in sides
    )
    return first, second


def _measure(
    case: Case,
    sides: tuple[_RevisionSide, _RevisionSide],
    settings: Settings,
    replica: int,
    replicas: int,
    calls: dict[str, int],
    stops: dict[str, str],
) -> None:
    """One case in one pair of processes; a failure of either costs the case, and that worker starts anew."""
    name = case.id
    if any(name in side.records and side.records[name].outcome != "ok" for side in sides):
        return
    prepared = [_prepare(side, case, count=replica == 0) for side in sides]
    seconds = [answer.seconds for answer in prepared if answer is not None and answer.seconds is not None]
    if len(seconds) < len(sides):
        return
    slowest = max(seconds)
    # One number of calls for both: a block of either is the same work.
    count = calls.setdefault(name, max(1, math.ceil(SHORTEST_BLOCK_SECONDS / max(slowest, 1e-9))))
    order = random.Random(f"{settings.seed}/{name}/{replica}")
    patience = 60 + 100 * count * slowest
    try:
        rounds = take_turns(
            *(_turn(side, count, patience) for side in sides),
            precision=settings.precision,
            budget_seconds=settings.budget_seconds / replicas,
            order=order,
        )
        verdicts = [_check_again(side, patience) for side in sides]
    except WorkerLostError as error:
        for side in sides:
            side.records[name] = Record(case, error.outcome, f"{error}; in one of the two revisions")
            side.stop()
        return
    stops[name] = "budget" if stops.get(name) == "budget" else rounds.stop
    for side, verdict, samples in zip(sides, verdicts, _whole(rounds), strict=True):
        record = msgspec.structs.replace(side.records[name], final_verdict=verdict)
        if not verdict.correct:
            record = msgspec.structs.replace(record, outcome="incorrect", message=verdict.reason)
        side.records[name] = record
        side.latencies.setdefault(name, []).append(tuple(value / count for value in samples))


def _prepare(side: _RevisionSide, case: Case, *, count: bool) -> Prepared | None:
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


def _turn(side: _RevisionSide, calls: int, patience: float) -> Turn:
    def turn() -> tuple[float, bool]:
        answer = side.ask(patience, do="block", calls=calls)
        assert isinstance(answer, TimedBlock)
        return answer.seconds, answer.interrupted

    return turn


def _check_again(side: _RevisionSide, patience: float) -> Verdict:
    answer = side.ask(patience, do="finish")
    assert isinstance(answer, CheckedAgain)
    return answer.verdict


def _whole(rounds: Rounds) -> tuple[list[float], list[float]]:
    """The samples of either side; an interrupted round is no number where enough others are."""
    if len(rounds.first) - len(rounds.interrupted) < LEAST_CLEAN:
        return rounds.first, rounds.second
    lost = set(rounds.interrupted)
    first, second = (
        [math.nan if index in lost else value for index, value in enumerate(side)]
        for side in (rounds.first, rounds.second)
    )
    return first, second


def _document(
    side: _RevisionSide,
    panels: tuple[Panel, ...],
    settings: Settings,
    token: str,
    command: str,
    started: str,
    seconds: float,
    calls: dict[str, int],
    stops: dict[str, Any],
) -> Run:
    here = environment()
    surroundings = msgspec.structs.replace(
        here,
        threads=side.threads,
        commit=side.revision.commit,
        dirty=side.revision.dirty,
        details={**here.details, PAIRED: token},
    )
    records = []
    for name, record in side.records.items():
        samples = side.latencies.get(name, [])
        latencies: tuple[Latency, ...] = ()
        if record.outcome == "ok" and samples:
            latencies = (Latency(METHOD, calls[name], tuple(samples), side.first_calls[name], stops[name]),)
        records.append(msgspec.structs.replace(record, latencies=latencies))
    return Run(
        schema_version=SCHEMA_VERSION,
        settings=settings,
        environment=surroundings,
        command=command,
        started=started,
        wall_seconds=seconds,
        called_seconds=seconds,
        panels=panels,
        records=tuple(records),
        skipped=(),
    )
