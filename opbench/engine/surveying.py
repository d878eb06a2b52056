"""Where a run is measured: the environment, the yardsticks, and what an earlier selfcheck of the machine has seen."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from opbench.engine.entries import Surroundings
from opbench.engine.journal import Journal
from opbench.engine.messages import Survey
from opbench.engine.resuming import differences, refuse
from opbench.engine.supervisor import Supervisor
from opbench.measure import phases
from opbench.schema import Environment, Plan, Selfcheck


class KnownMachine(NamedTuple):
    """A machine's selfcheck, and its figures in a sentence."""

    selfcheck: Selfcheck
    figures: str


# known(environment): of the machine that it describes; None where it has no selfcheck
Known = Callable[[Environment], KnownMachine | None]


def survey_machine(plan: Plan, journal: Journal, supervisor: Supervisor, known: Known) -> tuple[Surroundings, float]:
    """Where this is measured, and the seconds that a resumed run took to see that it is still the same.

    A journal that began elsewhere is refused. The supervisor hears of the best that the machine's selfcheck has seen.
    """
    began = time.perf_counter()
    before = journal.surroundings
    measured = dict.fromkeys((panel.cases[0].device, panel.cases[0].dtype) for panel in plan.panels)
    surveyed = supervisor.survey(Survey(() if before else tuple(measured), supervisor.memory_bytes, supervisor.cores))
    machine = known(surveyed.environment)
    best = machine.selfcheck.best if machine else None
    supervisor.best = phases.known(best, surveyed.environment.threads)
    if before is not None:
        refuse(journal.path, differences(before.environment, surveyed.environment))
        return before, time.perf_counter() - began
    environment = surveyed.environment
    if any(device == "cpu" for device, _ in measured):
        environment = replace(environment, details={**environment.details, **about_phases(machine, supervisor.best)})
    entry = Surroundings(environment, surveyed.yardsticks, surveyed.called_seconds, time.perf_counter() - began)
    journal.append(entry)
    return entry, 0.0


def about_phases(machine: KnownMachine | None, best: object) -> dict[str, str]:
    """For the environment: what `clear` is measured by, and what the selfcheck has found."""
    if machine is None:
        return {"phases": "clear: near the best of this run; the machine has no selfcheck", "selfcheck": "none"}
    taken = datetime.date.fromisoformat(machine.selfcheck.started[:10])
    days = (datetime.datetime.now(datetime.UTC).date() - taken).days
    age = "today" if days < 1 else f"{days} day{'' if days == 1 else 's'} before this run"
    if best:
        told = f"near the best that the selfcheck of {taken} and this run have seen"
    else:
        told = "near the best of this run; the selfcheck keeps none of these probes with as many threads"
    return {"phases": f"clear: {told}", "selfcheck": f"{age}: {machine.figures}"}
