"""A panel's visit, attempt by attempt: who brings the worker down loses its place, and the others are measured."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from opbench.engine.convictions import guilty, kills_the_run, to_be_tried_alone
from opbench.engine.entries import Entry, Given, Lost, PanelFinished
from opbench.engine.limits import Fault
from opbench.engine.messages import Measure, PanelMeasured
from opbench.engine.replicas import one_visit
from opbench.engine.supervisor import Supervisor
from opbench.schema import Case, Panel, Record, Settings

# A panel whose worker is lost, and of which no contender fails alone, is measured again.
RETRIES = 1


def answers_file(folder: Path, panel: Panel, settings: Settings) -> str:
    """Where a panel's first visit keeps what later ones are judged by; "" where there are no later ones."""
    if settings.replicas == 1:
        return ""
    return str(folder.resolve() / f"{zlib.crc32(panel.id.encode()):08x}.pt")


class Ledger(Protocol):
    """What is known of the visits of panels, and what takes an entry: a run's journal, or a node's notes of a visit.

    `killed` has the cases that a worker had, by panel, each time that its run was killed or its node was lost.
    """

    finished: dict[tuple[int, str], PanelFinished]
    lost: dict[tuple[int, str], list[Record]]
    killed: dict[tuple[int, str], list[tuple[str, ...]]]

    def append(self, entry: Entry) -> None:
        """Takes the entry, which from here on is known."""
        ...


class Attempts:
    """One panel in one process, until it succeeds: without those who brought the worker down.

    `answers` is the file of the definition's answers between visits; "" keeps none. `preempted`: somebody else may end
    this process at any moment, so that being killed says less about a contender.
    """

    def __init__(
        self,
        panel: Panel,
        replica: int,
        settings: Settings,
        ledger: Ledger,
        supervisor: Supervisor,
        *,
        answers: str = "",
        preempted: bool = False,
    ) -> None:
        self.panel, self.replica, self.settings = panel, replica, settings
        self.ledger, self.supervisor = ledger, supervisor
        self.answers, self.preempted = answers, preempted
        self.earlier = [ledger.finished[process, panel.id] for process in range(replica)]
        # What failed in an earlier process has its outcome; what was lost in this one before the run was resumed, too.
        failed = {r.case.id for entry in self.earlier for r in entry.records if r.outcome not in ("ok", "disturbed")}
        lost = {record.case.id for record in ledger.lost.get((replica, panel.id), ())}
        self.left = [case for case in panel.cases if case.id not in failed | lost]

    def run(self) -> None:
        """The panel becomes an entry, whatever comes of it."""
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
        by_case |= {record.case.id: record for record in self.ledger.lost.get((self.replica, self.panel.id), ())}
        records = tuple(by_case[case.id] for case in self.panel.cases if case.id in by_case)
        seconds = time.perf_counter() - began
        if measured.best is not None:
            self.supervisor.best = measured.best
        self.ledger.append(
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
        self.ledger.append(Given(self.replica, self.panel.id, tuple(case.id for case in work.panel.cases)))
        return self.supervisor.measure(work)

    def _without_who_kills_the_run(self) -> None:
        """Of a resumed run that was killed in this panel more than once: who is well alone stays."""
        killed = self.ledger.killed.get((self.replica, self.panel.id), ())
        for case in list(self.left):
            record = kills_the_run(case, killed, was_well=bool(self.earlier), preempted=self.preempted)
            if record is not None:
                self.ledger.append(Lost(self.replica, self.panel.id, record))
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
        self.ledger.append(Lost(self.replica, self.panel.id, record))
        self.left.remove(case)
