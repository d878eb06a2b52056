"""One run: the plan's panels one after another, yardsticks first, everything that was seen in one document.

This side measures nothing and calls no contender: a worker does (`worker.py`), and this process stays alive whatever
becomes of it. Visits (`settings.replicas` of them) are passes over the whole plan, each in a fresh interpreter, so that
a machine that drifts over minutes moves the visits of a panel apart, as it would those of another day.
"""

from __future__ import annotations

import datetime
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec.structs import replace

from opbench.documents import encode
from opbench.engine.convictions import guilty, kills_the_run, to_be_tried_alone
from opbench.engine.entries import FirstCalled, Given, Header, Lost, PanelFinished, Surroundings, session
from opbench.engine.journal import Journal
from opbench.engine.log import Write, finished
from opbench.engine.log import surroundings as about
from opbench.engine.messages import Measure, PanelMeasured
from opbench.engine.replicas import merge, one_visit
from opbench.engine.resuming import digests
from opbench.engine.supervisor import Fault, Supervisor
from opbench.engine.surveying import Known, survey_machine
from opbench.schema import (
    SCHEMA_VERSION,
    Case,
    OpbenchError,
    Panel,
    Plan,
    Record,
    Run,
    Settings,
    Skipped,
    Yardstick,
)
from opbench.statistics.roofline import implausible, roofline

Progress = Callable[[int, Panel | None], None]

# A panel whose worker is lost, and of which no contender fails alone, is measured again.
RETRIES = 1
# In the run's folder, while it lasts: what a panel's later visits are judged by.
ANSWERS = "answers"


def execute(
    plan: Plan,
    settings: Settings,
    folder: Path,
    *,
    command: str,
    progress: Progress,
    supervisor: Supervisor,
    finish: Callable[[Run], None] = lambda run: None,
    resume: bool = False,
    within_seconds: float | None = None,
    known: Known = lambda environment: None,
    log: Write = lambda line: None,
) -> Run:
    """Runs a plan and returns its document. `progress(done, panel)` is told before each panel and at the end.

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
        threads=supervisor.threads,
        started=started,
    )
    with Journal(folder, header, session(command, started), resume=resume) as journal:
        log(command)
        surroundings, repeated_seconds = survey_machine(plan, journal, supervisor, known)
        for line in about(surroundings.environment, surroundings.yardsticks):
            log(line)
        done = 0
        for replica in range(settings.replicas):
            if replica:
                supervisor.fresh()
            for panel in plan.panels:
                begun = (replica, panel.id) in journal.finished
                if not begun and within_seconds is not None and time.monotonic() - began > within_seconds:
                    continue
                progress(done, panel)
                if not begun:
                    _Attempts(panel, replica, settings, journal, supervisor).run()
                    entry = journal.finished[replica, panel.id]
                    for line in finished(panel.id, replica, entry.records, entry.wall_seconds):
                        log(line)
                done += 1
        progress(done, None)
        reached, skipped = _reached(plan, journal, within_seconds)
        missing = len(plan.panels) * settings.replicas - done
        merged = (record for panel in reached for record in _records(panel, settings.replicas, journal))
        records = tuple(_plausible(record, surroundings.yardsticks) for record in merged)
        if not missing:
            for case in _first_called(plan, records):
                _call_first(case, journal, supervisor)
        entries: tuple[Surroundings | PanelFinished | FirstCalled, ...]
        entries = (surroundings, *journal.finished.values(), *journal.first_calls.values())
        run = Run(
            schema_version=SCHEMA_VERSION,
            settings=settings,
            environment=surroundings.environment,
            command=command,
            started=journal.header.started,
            wall_seconds=repeated_seconds + sum(entry.wall_seconds for entry in entries),
            called_seconds=sum(entry.called_seconds for entry in entries),
            panels=reached,
            records=records,
            skipped=(*plan.skipped, *skipped),
            yardsticks=surroundings.yardsticks,
            targets=plan.targets,
            first_calls=tuple(entry.first_call for entry in journal.first_calls.values()),
            probes=tuple(entry.probes for entry in journal.finished.values() if entry.probes is not None),
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
    reached = tuple(panel for panel in plan.panels if (0, panel.id) in journal.finished)
    if len(reached) == len(plan.panels):
        return reached, ()
    reason = f"not begun within {within_seconds:g} s (--within): the same command with --resume measures it"
    left = (panel for panel in plan.panels if (0, panel.id) not in journal.finished)
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
        if record.outcome == "ok" and (
            (case.contender, case.task, case.workload, case.dtype, case.device, case.mode) in asked
        ):
            yield case


def _call_first(case: Case, journal: Journal, supervisor: Supervisor) -> None:
    if case.id not in journal.first_calls:
        began = time.perf_counter()
        result = supervisor.first_call(case)
        journal.append(FirstCalled(result.first_call, result.called_seconds, time.perf_counter() - began))


class _Attempts:
    """One panel in one process, until it succeeds: without those who brought the worker down."""

    def __init__(
        self, panel: Panel, replica: int, settings: Settings, journal: Journal, supervisor: Supervisor
    ) -> None:
        self.panel, self.replica, self.settings = panel, replica, settings
        self.journal, self.supervisor = journal, supervisor
        self.answers = ""
        if settings.replicas > 1:
            self.answers = str(journal.path.parent.resolve() / ANSWERS / f"{zlib.crc32(panel.id.encode()):08x}.pt")
        self.earlier = [journal.finished[process, panel.id] for process in range(replica)]
        # What failed in an earlier process has its outcome; what was lost in this one before the run was resumed, too.
        failed = {r.case.id for entry in self.earlier for r in entry.records if r.outcome not in ("ok", "disturbed")}
        lost = {record.case.id for record in journal.lost.get((replica, panel.id), ())}
        self.left = [case for case in panel.cases if case.id not in failed | lost]

    def run(self) -> None:
        """Journals the panel."""
        began = time.perf_counter()
        retried = 0
        measured = PanelMeasured((), 0.0)
        self._without_who_kills_the_run()
        while self.left:
            begun = time.perf_counter()
            result = self._measure(self._assignment(self.left))
            if isinstance(result, PanelMeasured):
                measured = result
                break
            seconds = time.perf_counter() - begun
            nobody = result.contender is None and not retried
            found = None if nobody else guilty(self.left, result, seconds, self._alone)
            self.supervisor.another_worker()
            if found is not None:
                self._lose(*found)
            elif retried < RETRIES:
                retried += 1
            else:
                together = result._replace(message=f"{result.message}; the second time, though not alone")
                for case in list(self.left) if result.contender is None else [self.left[result.contender]]:
                    self._lose(case, together)
        by_case = {record.case.id: record for record in measured.records}
        by_case |= {record.case.id: record for record in self.journal.lost.get((self.replica, self.panel.id), ())}
        records = tuple(by_case[case.id] for case in self.panel.cases if case.id in by_case)
        seconds = time.perf_counter() - began
        if measured.best is not None:
            self.supervisor.best = measured.best
        self.journal.append(
            PanelFinished(
                self.replica, self.panel.id, records, measured.called_seconds, seconds, probes=measured.probes
            )
        )

    def _alone(self, case: Case, linger_seconds: float) -> PanelMeasured | Fault:
        """The case by itself, in a process that has done nothing yet."""
        self.supervisor.another_worker()
        return self._measure(replace(self._assignment([case]), linger_seconds=linger_seconds))

    def _measure(self, work: Measure) -> PanelMeasured | Fault:
        """Journals what a worker is given before it has it: perhaps nobody is left to write it afterwards."""
        self.journal.append(Given(self.replica, self.panel.id, tuple(case.id for case in work.panel.cases)))
        return self.supervisor.measure(work)

    def _without_who_kills_the_run(self) -> None:
        """Of a resumed run that was killed in this panel more than once: who is well alone stays."""
        killed = self.journal.killed.get((self.replica, self.panel.id), ())
        for case in list(self.left):
            if (record := kills_the_run(case, killed, was_well=bool(self.earlier))) is not None:
                self.journal.append(Lost(self.replica, self.panel.id, record))
                self.left.remove(case)
                return
        for case in to_be_tried_alone(tuple(self.left), killed):
            # Whoever kills the run may have killed this worker: once is no proof.
            if isinstance(self._alone(case, 0.0), Fault) and isinstance(found := self._alone(case, 0.0), Fault):
                self._lose(case, found)

    def _assignment(self, cases: Sequence[Case]) -> Measure:
        calls: dict[str, dict[str, int]] = {}
        for entry in self.earlier[:1]:
            for record in entry.records:
                for latency in record.latencies:
                    calls.setdefault(latency.method, {})[record.case.contender] = latency.calls_per_sample
        return Measure(
            panel=replace(self.panel, cases=tuple(cases)),
            settings=one_visit(self.settings),
            memory_bytes=self.supervisor.memory_bytes,
            calls_per_sample=calls,
            counting=self.replica == 0,
            replica=self.replica,
            best=self.supervisor.best,
            answers=self.answers,
        )

    def _lose(self, case: Case, fault: Fault) -> None:
        twice = "; the second time" if fault.foreign else ""
        record = Record(case=case, outcome=fault.outcome, message=fault.message + twice)
        self.journal.append(Lost(self.replica, self.panel.id, record))
        self.left.remove(case)


def _plausible(record: Record, yardsticks: Sequence[Yardstick]) -> Record:
    """The record, or its outcome where it is faster than the machine can move its bytes."""
    limit = roofline(yardsticks, record.case, record.counts) if record.outcome == "ok" else None
    for latency in record.latencies:
        if why := implausible(limit, latency):
            return replace(record, outcome="implausible", message=why, latencies=())
    return record


def _records(panel: Panel, replicas: int, journal: Journal) -> Sequence[Record]:
    """The panel's records over all its visits, in the panel's order."""
    by_case: dict[str, list[Record]] = {}
    for replica in range(replicas):
        if entry := journal.finished.get((replica, panel.id)):
            for record in entry.records:
                by_case.setdefault(record.case.id, []).append(record)
    return [merge(by_case[case.id], replicas) for case in panel.cases]
