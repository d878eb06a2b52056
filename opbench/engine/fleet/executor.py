"""Panels on the nodes of one type: what a run on one machine does in turn, at once on as many as there are.

A node that is lost costs the panel that it had, which is measured again elsewhere; one that comes back, or is new and
of this type, takes part. What is finished is in the run's journal at once, as on one machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from opbench.documents import decode, encode
from opbench.engine.entries import Entry, Given, Lost, NodeLost, PanelFinished, Surroundings
from opbench.engine.executor import Begin, Visit
from opbench.engine.fleet.cluster import NodeGone
from opbench.engine.fleet.node import NodeDescribed, NodeSurvey, NodeVisitWork, outline
from opbench.engine.fleet.node_types import NodeType
from opbench.engine.fleet.scheduling import Scheduler
from opbench.engine.fleet.slots import Crew, Slot
from opbench.engine.journal import Journal
from opbench.engine.log import Write
from opbench.engine.messages import CalledFirst
from opbench.engine.resuming import differences, refuse
from opbench.engine.surveying import Known, KnownMachine, about_phases
from opbench.measure import phases
from opbench.measure.probes import Probe
from opbench.schema import Case, Device, DType, FirstCall, OpbenchError, Plan, Settings

WAIT_SECONDS = 1.0
# How often the cluster is asked for nodes that are new or back.
RENEW_SECONDS = 5.0
# So long without a single node ends the run; what is finished is kept.
ALONE_SECONDS = 600.0
# A first call is tried on so many nodes.
CALLS_AT_MOST = 3


@dataclass(eq=False)
class _Errand:
    """What a slot has been asked: `visit` to measure, or what it is, or its yardsticks (`survey`)."""

    slot: Slot
    waits: Any
    visit: Visit | None = None
    survey: bool = False
    cases: tuple[str, ...] = ()


class RayExecutor:
    """The slots of one node type. `seconds` are a panel's, by its id, as far as they are known beforehand."""

    def __init__(
        self,
        crew: Crew,
        kind: NodeType,
        slots: Sequence[Slot],
        *,
        accelerator: str | None = None,
        seconds: Mapping[str, float] | None = None,
        threads: int | None = None,
        log: Write = lambda line: None,
    ) -> None:
        self.crew, self.kind, self.slots = crew, kind, list(slots)
        self._accelerator, self._expected, self._threads, self._log = accelerator, seconds or {}, threads, log
        self._errands: list[_Errand] = []
        self._refused: set[str] = set()
        self._measured: tuple[tuple[Device, DType], ...] = ()
        self._machine: KnownMachine | None = None
        self._best: Probe | None = None
        self._renewed = self._seen = time.monotonic()

    @property
    def threads(self) -> int | None:
        """How many threads a contender may have."""
        return self._threads

    @property
    def at_work(self) -> int:
        """How many panels are being measured now."""
        return sum(errand.visit is not None for errand in self._errands)

    def survey(self, plan: Plan, journal: Journal, known: Known) -> tuple[Surroundings, float]:
        """The first node's surroundings, in the journal; every other node is surveyed before it gets its first panel.

        A journal that began on nodes of another type is refused.
        """
        began = time.perf_counter()
        # Once for all nodes: they differ in nothing that a selfcheck is found by.
        self._machine = known(self.kind.environment)
        selfcheck = self._machine.selfcheck if self._machine else None
        self._best = phases.known(selfcheck.best if selfcheck else None, self.kind.environment.threads)
        self._measured = tuple(dict.fromkeys((panel.cases[0].device, panel.cases[0].dtype) for panel in plan.panels))
        before = journal.surroundings
        if before is not None:
            refuse(journal.path, differences(before.environment, self.kind.environment))
        while not any(slot.surveyed for slot in self.slots):
            self._give_surveys(1)
            self._turn(journal, None)
        assert journal.surroundings is not None
        return journal.surroundings, 0.0 if before is None else time.perf_counter() - began

    def measure(self, visits: Sequence[Visit], settings: Settings, journal: Journal, begin: Begin) -> Iterator[Visit]:
        """Measures the visits, the longest of the first ones first; yields each when it is in the journal."""

        def seconds(visit: Visit) -> float:
            earlier = journal.finished.get((visit.replica - 1, visit.panel.id))
            return earlier.wall_seconds if earlier else self._expected.get(visit.panel.id, 0.0)

        scheduler = Scheduler(visits, seconds)
        in_time = True
        while scheduler.left and (in_time or self.at_work):
            self._give_surveys()
            in_time = in_time and self._give_visits(scheduler, settings, journal, begin)
            if in_time or self.at_work:
                visit = self._turn(journal, scheduler)
                if visit is not None:
                    yield visit

    def first_call(self, case: Case) -> CalledFirst:
        """Times the first call of a case, on a node that has nothing else to do."""
        why = "no node"
        for _ in range(CALLS_AT_MOST):
            while (slot := next(self._takeable(surveyed=True), None)) is None:
                self._turn(None, None)
            try:
                found = self.crew.cluster.answer(slot.actor.first_call.remote(encode(case)))
                assert found is not None
                return decode(found, CalledFirst)
            except NodeGone as gone:
                why = str(gone)
                self._lose(slot)
            finally:
                self.crew.give_back(slot)
        return CalledFirst(FirstCall(case.id, (), (), f"lost {CALLS_AT_MOST} nodes: {why}"), 0.0)

    # --- Giving ------------------------------------------------------------------------------------------------------

    def _takeable(self, *, surveyed: bool) -> Iterator[Slot]:
        """Slots that have nothing to do, each taken."""
        for slot in list(self.slots):
            if slot.surveyed is surveyed and self.crew.take(slot):
                yield slot

    def _give_surveys(self, most: int | None = None) -> None:
        for count, slot in enumerate(self._takeable(surveyed=False), start=1):
            work = NodeSurvey(self._measured, self._best)
            self._errands.append(_Errand(slot, slot.actor.survey.remote(encode(work)), survey=True))
            if count == most:
                return

    def _give_visits(self, scheduler: Scheduler, settings: Settings, journal: Journal, begin: Begin) -> bool:
        """Gives every free node a visit; False once the time is up."""
        for slot in self._takeable(surveyed=True):
            visit = scheduler.begin(time.monotonic())
            if visit is None:
                self.crew.give_back(slot)
                break
            if not begin(visit):
                self.crew.give_back(slot)
                scheduler.lost(visit)
                return False
            work = NodeVisitWork(
                visit.panel,
                visit.replica,
                settings,
                tuple(outline(journal.finished[process, visit.panel.id]) for process in range(visit.replica)),
                tuple(journal.lost.get(visit.key, ())),
                tuple(journal.killed.get(visit.key, ())),
            )
            self._errands.append(_Errand(slot, slot.actor.measure.remote(encode(work)), visit))
        return True

    # --- Hearing -----------------------------------------------------------------------------------------------------

    def _turn(self, journal: Journal | None, scheduler: Scheduler | None) -> Visit | None:
        """Waits a moment for whatever comes of the errands; the visit that has been finished by it."""
        if self.crew.stopped.is_set():
            raise KeyboardInterrupt
        self._renew()
        ready = self.crew.cluster.first_ready([errand.waits for errand in self._errands], WAIT_SECONDS)
        if ready is None:
            if not self._errands:
                time.sleep(WAIT_SECONDS)
            return None
        errand = next(errand for errand in self._errands if errand.waits is ready or errand.waits == ready)
        try:
            found = self.crew.cluster.answer(errand.waits)
        except NodeGone as gone:
            self._gone(errand, str(gone), journal, scheduler)
            return None
        except (OpbenchError, RuntimeError) as error:
            if errand.visit is not None:
                raise
            self._gone(errand, str(error).splitlines()[-1], None, None)  # it never took part
            return None
        if errand.visit is not None and found is not None and journal is not None and scheduler is not None:
            entry: Entry = decode(found, Entry)  # type: ignore[arg-type]
            return self._heard(errand, entry, journal, scheduler)
        self._errands.remove(errand)
        if errand.survey and found is not None and journal is not None:
            self._surveyed(errand.slot, decode(found, Surroundings), journal)
        if errand.survey or errand.visit is not None:
            self.crew.give_back(errand.slot)
        elif found is not None:
            self._described(errand.slot, decode(found, NodeDescribed))
        return None

    def _heard(self, errand: _Errand, entry: Entry, journal: Journal, scheduler: Scheduler) -> Visit | None:
        assert errand.visit is not None
        open_ = errand.visit.key not in journal.finished
        match entry:
            case Given():
                errand.cases = entry.cases
            case Lost() if open_:
                journal.append(entry)
            case PanelFinished():
                if scheduler.finished(errand.visit) and open_:
                    journal.append(replace(entry, node=errand.slot.name))
                    return errand.visit
        return None

    def _surveyed(self, slot: Slot, found: Surroundings, journal: Journal) -> None:
        environment = found.environment
        if differing := differences(self.kind.environment, environment):
            self._log(f"node {slot.name} has changed: {'; '.join(differing)}")
            self._refused.add(slot.node.id)
            self.slots.remove(slot)
            self.crew.release(slot)
            return
        if any(device == "cpu" for device, _ in self._measured):
            phase = about_phases(self._machine, self._best)
            environment = replace(environment, details={**environment.details, **phase})
        journal.append(replace(found, environment=environment, node=slot.name))
        slot.surveyed = True
        self._log(f"node {slot.name} takes part")

    # --- Losing and finding ------------------------------------------------------------------------------------------

    def _gone(self, errand: _Errand, why: str, journal: Journal | None, scheduler: Scheduler | None) -> None:
        slot, visit = errand.slot, errand.visit
        self._errands.remove(errand)
        self.crew.give_back(slot)
        self._lose(slot, failed=why if visit is None else "")
        if visit is None or scheduler is None or journal is None:
            return
        if visit.key not in journal.finished:
            journal.append(NodeLost(visit.replica, visit.panel.id, errand.cases, slot.name, why))
            self._log(f"node {slot.name} was lost while it measured {visit.panel.id}: {why}; measured again elsewhere")
        scheduler.lost(visit)

    def _lose(self, slot: Slot, failed: str = "") -> None:
        if slot in self.slots:
            self.slots.remove(slot)
        self.crew.release(slot, failed)
        if not failed:
            self._renewed -= RENEW_SECONDS  # its node may still be there, and gets another slot at once

    def _renew(self) -> None:
        """Every few seconds: starts slots on nodes that are new or back. Ends a run that long had no node."""
        now = time.monotonic()
        if self.slots:
            self._seen = now
        elif now - self._seen > ALONE_SECONDS:
            raise OpbenchError(
                f"no node of type {self.kind.name} for {ALONE_SECONDS / 60:.0f} minutes; what was finished is kept for "
                "--resume"
            )
        if now - self._renewed < RENEW_SECONDS:
            return
        self._renewed = now
        for slot in self.crew.claim(self._accelerator, self._refused):
            self._errands.append(_Errand(slot, slot.actor.describe.remote()))

    def _described(self, slot: Slot, found: NodeDescribed) -> None:
        """A node that has come later takes part if it is of this type; another type may want it otherwise."""
        if differing := differences(self.kind.environment, found.environment):
            self._refused.add(slot.node.id)
            self._log(f"node {slot.name} is of another type than {self.kind.name}: {'; '.join(differing)}")
            self.crew.release(slot)
        else:
            self.slots.append(slot)
