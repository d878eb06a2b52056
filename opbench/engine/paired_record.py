"""One of two revisions while cases are measured in both: its worker, what was found so far, and its run document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec.structs import replace

from opbench.engine.revision_worker import Answer, RevisionWorker
from opbench.engine.revisions import Revision
from opbench.measure.pinning import Pinning, inherited
from opbench.schema import SCHEMA_VERSION, Case, Environment, Latency, Panel, Record, Run, Settings, StopReason

METHOD = "cpu-wall"


class TakenProcess(NamedTuple):
    """What one process gave of one case: seconds of a call, thousandths of it spent waiting, disturbed rounds."""

    samples: tuple[float, ...]
    waited: tuple[int, ...]
    left_out: tuple[int, ...]

    @property
    def told(self) -> bool:
        """Whether a figure can be of it."""
        return len(self.left_out) < len(self.samples)


@dataclass
class CaseInTurns:
    """What both revisions have in common of a case: calls of a block, why the rounds ended, what disturbed them."""

    case: Case
    calls: int = 0
    stop: StopReason = "precision"
    seen: list[str] = field(default_factory=list)


@dataclass
class RevisionSide:
    """One revision while the panels run: its worker, and per case the record and samples so far."""

    revision: Revision
    threads: int
    pinned: Pinning
    worker: RevisionWorker | None = None
    records: dict[str, Record] = field(default_factory=dict)
    taken: dict[str, list[TakenProcess]] = field(default_factory=dict)
    first_calls: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """A fresh process."""
        self.stop()
        with inherited(self.pinned):
            self.worker = RevisionWorker(self.revision, self.threads)

    def stop(self) -> None:
        """Ends the process, if there is one."""
        if self.worker is not None:
            self.worker.close()
        self.worker = None

    def ask(self, seconds: float, **request: Any) -> Answer:
        """One request, one answer."""
        if self.worker is None:
            self.start()
        assert self.worker is not None
        return self.worker.ask(seconds, **request)

    def failed(self, name: str) -> bool:
        """Whether a case has gone wrong here."""
        return name in self.records and self.records[name].outcome != "ok"

    def conclude(self, case: CaseInTurns, processes: int) -> None:
        """Names a case disturbed that too few processes could time."""
        record = self.records.get(case.case.id)
        taken = self.taken.get(case.case.id, [])
        if record is None or record.outcome != "ok" or not taken:
            return
        told = sum(one.told for one in taken)
        if told < min(2, processes):
            fewer = "use fewer threads (--threads 1)" if self.threads > 1 else "leave it a free core"
            message = f"{case.seen[-1]}; {fewer}, or use another hour"
            record = replace(record, outcome="disturbed", message=message)
        elif case.seen:
            notes = tuple(f"disturbed in one of several processes: {seen}" for seen in case.seen)
            record = replace(record, notes=(*record.notes, *notes))
        self.records[case.case.id] = record

    def document(
        self,
        panels: tuple[Panel, ...],
        settings: Settings,
        here: Environment,
        *,
        command: str,
        started: str,
        seconds: float,
        cases: Sequence[CaseInTurns],
    ) -> Run:
        """The run of one side."""
        records = [
            replace(record, latencies=self._latencies(case) if record.outcome == "ok" else ())
            for case in cases
            if (record := self.records.get(case.case.id))
        ]
        return Run(
            schema_version=SCHEMA_VERSION,
            settings=settings,
            environment=replace(here, threads=self.threads, commit=self.revision.commit, dirty=self.revision.dirty),
            command=command,
            started=started,
            wall_seconds=seconds,
            called_seconds=seconds,
            panels=panels,
            records=tuple(records),
            skipped=(),
        )

    def _latencies(self, case: CaseInTurns) -> tuple[Latency, ...]:
        taken = self.taken.get(case.case.id, [])
        if not taken:
            return ()
        disturbed = any(one.left_out for one in taken)
        return (
            Latency(
                METHOD,
                case.calls,
                tuple(one.samples for one in taken),
                self.first_calls[case.case.id],
                case.stop,
                waited=tuple(one.waited for one in taken),
                left_out=tuple(one.left_out for one in taken) if disturbed else (),
            ),
        )
