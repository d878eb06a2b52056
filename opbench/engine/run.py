"""One run: the plan's panels by an executor, yardsticks first, everything that was seen in one document.

This side measures nothing and calls no contender: a worker does (`worker.py`), and this process stays alive whatever
becomes of it. Visits (`settings.replicas` of them) are passes over the whole plan, each in a fresh interpreter, so that
a machine that drifts over minutes moves the visits of a panel apart, as it would those of another day. Where they are
measured is the executor's: on this machine, or on the nodes of a fleet.
"""

from __future__ import annotations

import datetime
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from opbench.documents import encode
from opbench.engine.composing import composed, records_of, visited
from opbench.engine.entries import FirstCalled, Header, session
from opbench.engine.executor import ANSWERS, Executor, Visit
from opbench.engine.journal import Journal
from opbench.engine.log import Write, finished
from opbench.engine.log import surroundings as about
from opbench.engine.machines import measured_on
from opbench.engine.resuming import digests
from opbench.engine.surveying import Known
from opbench.schema import (
    Case,
    OpbenchError,
    Panel,
    Plan,
    Record,
    Run,
    Settings,
    Skipped,
)

Progress = Callable[[int, Panel | None], None]


def execute(
    plan: Plan,
    settings: Settings,
    folder: Path,
    *,
    command: str,
    progress: Progress,
    executor: Executor,
    finish: Callable[[Run], None] = lambda run: None,
    resume: bool = False,
    within_seconds: float | None = None,
    known: Known = lambda environment: None,
    log: Write = lambda line: None,
) -> Run:
    """Runs a plan; returns its document. `progress(done, panel)` is told before each panel and at the end.

    What is finished is in the folder's journal whatever happens; with `resume` what is there is not done again.
    `finish` puts the document where it belongs: the journal is deleted after it, and locked until then. After
    `within_seconds` no panel is begun: the document then holds those that were visited at least once, names the
    others' cases as skipped, and the journal stays, so that `resume` can add what is missing. `known` finds what
    the selfcheck of a machine has seen, by which phases are told.
    """
    began = time.monotonic()
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if resume and not (folder / "journal.jsonl").exists() and (folder / "run.json").exists():
        raise OpbenchError(f"--resume: {folder / 'run.json'} is finished; leave --resume out to measure anew")
    header = Header(
        settings=settings,
        panels=digests({panel.id: encode(panel) for panel in plan.panels}),
        extensions=digests({path: Path(path).read_bytes() for path in settings.extensions}),
        threads=executor.threads,
        started=started,
    )
    with Journal(folder, header, session(command, started), resume=resume) as journal:
        log(command)
        surroundings, repeated_seconds = executor.survey(plan, journal, known)
        for line in about(surroundings.environment, surroundings.yardsticks):
            log(line)
        visits = [Visit(replica, panel) for replica in range(settings.replicas) for panel in plan.panels]
        left = [visit for visit in visits if visit.key not in journal.finished]
        done = 0
        for visit in visits:
            if visit.key in journal.finished:
                progress(done, visit.panel)
                done += 1

        def begin(visit: Visit) -> bool:
            if within_seconds is not None and time.monotonic() - began > within_seconds:
                return False
            progress(done, visit.panel)
            return True

        for visit in executor.measure(left, settings, journal, begin):
            done += 1
            entry = journal.finished[visit.key]
            for line in finished(visit.panel.id, visit.replica, entry.records, entry.wall_seconds, entry.node):
                log(line)
        progress(done, None)
        reached, skipped = _reached(plan, journal, within_seconds)
        missing = len(visits) - done
        machines = measured_on(journal.nodes, journal.finished)
        if machines.nodes:  # the document's environment and yardsticks are of all of them
            for line in about(machines.environment, machines.yardsticks):
                log(line)
        records = records_of(reached, settings.replicas, journal.finished, machines.yardsticks)
        if not missing:
            for case in _first_called(plan, records):
                _call_first(case, journal, executor)
        run = composed(
            plan,
            settings,
            machines,
            started=journal.header.started,
            command=command,
            panels=reached,
            records=records,
            skipped=skipped,
            places=tuple(journal.nodes.values()),
            visits=tuple(journal.finished.values()),
            first_calls=tuple(journal.first_calls.values()),
            more_seconds=repeated_seconds,
        )
        finish(run)
        if missing:
            log(f"{_missing(skipped, missing)} not begun within {within_seconds:g} s; --resume adds them")
        else:
            journal.remove()
            shutil.rmtree(folder / ANSWERS, ignore_errors=True)
        log(f"finished after {time.monotonic() - began:.1f} s")
        return run


def _missing(skipped: Sequence[Skipped], visits: int) -> str:
    return f"{len(skipped)} cases were" if skipped else f"{visits} further visits of panels were"


def _reached(
    plan: Plan, journal: Journal, within_seconds: float | None
) -> tuple[tuple[Panel, ...], tuple[Skipped, ...]]:
    """The panels that were visited, and the cases of those that time did not suffice for."""
    reached, left = visited(plan, journal.finished)
    if not left:
        return reached, ()
    reason = f"not begun within {within_seconds:g} s (--within): the same command with --resume measures it"
    return reached, tuple(Skipped(case.id, reason) for panel in left for case in panel.cases)


def _first_called(plan: Plan, records: Sequence[Record]) -> Iterator[Case]:
    """The cases whose first call the plan's targets ask for, those whose answers were right."""
    asked = {
        (target.contender, target.task, target.workload, target.dtype, target.device, target.mode)
        for target in plan.targets
        if target.quantity.startswith("first-call")
    }
    for record in records:
        case = record.case
        if (
            record.outcome == "ok"
            and not case.executed
            and ((case.contender, case.task, case.workload, case.dtype, case.device, case.mode) in asked)
        ):
            yield case


def _call_first(case: Case, journal: Journal, executor: Executor) -> None:
    if case.id not in journal.first_calls:
        began = time.perf_counter()
        result = executor.first_call(case)
        journal.append(FirstCalled(result.first_call, result.called_seconds, time.perf_counter() - began))
