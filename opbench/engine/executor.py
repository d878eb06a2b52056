"""What measures planned panels: this machine, one after another, or the nodes of a fleet (`opbench.engine.fleet`).

An executor is given visits of panels and yields each when it is in the journal. The panels' code is the same
everywhere (`attempts`, `supervisor`, `worker`); an executor decides where and when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from opbench.engine.attempts import Attempts, answers_file
from opbench.engine.entries import Surroundings
from opbench.engine.journal import Journal
from opbench.engine.messages import CalledFirst
from opbench.engine.supervisor import Supervisor
from opbench.engine.surveying import Known, survey_machine
from opbench.schema import Case, Panel, Plan, Settings

# In the run's folder, while it lasts: what a panel's later visits are judged by.
ANSWERS = "answers"


class Visit(NamedTuple):
    """A panel in a process of its own: its first (`replica` 0) or a later one."""

    replica: int
    panel: Panel

    @property
    def key(self) -> tuple[int, str]:
        """As the journal names it."""
        return self.replica, self.panel.id


# begin(visit): told before a visit is begun; False: the time is up, and it is not to be begun.
Begin = Callable[[Visit], bool]


class Executor(Protocol):
    """Measures a plan's panels. `threads` are those that were asked for, None torch's own choice."""

    @property
    def threads(self) -> int | None:
        """How many threads a contender may have."""
        ...

    def survey(self, plan: Plan, journal: Journal, known: Known) -> tuple[Surroundings, float]:
        """Where it is measured, in the journal, and the seconds that a resumed run took to see that it is the same."""
        ...

    def measure(self, visits: Sequence[Visit], settings: Settings, journal: Journal, begin: Begin) -> Iterator[Visit]:
        """Measures the visits, first ones first, and yields each when it is in the journal."""
        ...

    def first_call(self, case: Case) -> CalledFirst:
        """Times the first call of a case."""
        ...


class LocalExecutor:
    """Measures on this machine, a panel after another, by one supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    @property
    def threads(self) -> int | None:
        """How many threads a contender may have."""
        return self.supervisor.threads

    def survey(self, plan: Plan, journal: Journal, known: Known) -> tuple[Surroundings, float]:
        """Where it is measured, in the journal, and the seconds that a resumed run took to see that it is the same."""
        return survey_machine(plan, journal, self.supervisor, known)

    def measure(self, visits: Sequence[Visit], settings: Settings, journal: Journal, begin: Begin) -> Iterator[Visit]:
        """Measures the visits in their order, those of each replica in a fresh interpreter."""
        replica = 0
        for visit in visits:
            if visit.replica != replica:
                replica = visit.replica
                self.supervisor.fresh()
            if begin(visit):
                answers = answers_file(journal.path.parent / ANSWERS, visit.panel, settings)
                Attempts(visit.panel, visit.replica, settings, journal, self.supervisor, answers=answers).run()
                yield visit

    def first_call(self, case: Case) -> CalledFirst:
        """Times the first call of a case."""
        return self.supervisor.first_call(case)
