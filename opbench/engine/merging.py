"""Run documents of parts: whoever reads the same parts makes the same documents, and no writer is asked.

Parts are of one run: one header, one plan. What was measured in surroundings that make times no part of one run
(another machine, GPU, version of torch) is refused by name: one document would hold it as if it were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from opbench.engine.composing import composed, records_of, visited
from opbench.engine.entries import Entry, FirstCalled, Header, PanelFinished, Surroundings
from opbench.engine.machines import Machines
from opbench.engine.parts import StoredParts
from opbench.engine.resuming import differences
from opbench.schema import OpbenchError, Plan, Run, Skipped


class MergedRun(NamedTuple):
    """The document of one node type; `missing` visits of panels aren't among the parts."""

    type: str
    run: Run
    missing: int


def merged(parts: StoredParts, command: str = "") -> tuple[MergedRun, ...]:
    """The run of each node type that parts are of. Raises OpbenchError where a plan or a header lacks."""
    if not parts.lines:
        raise OpbenchError("holds no part of a run")
    return tuple(_merged(parts, type_, command) for type_ in sorted(parts.types))


def _merged(parts: StoredParts, type_: str, command: str) -> MergedRun:
    where = f"{type_}: " if type_ else ""
    plan, entries = parts.plan(type_), parts.entries(type_)
    header = next((entry for entry in entries if isinstance(entry, Header)), None)
    surroundings = [entry for entry in entries if isinstance(entry, Surroundings)]
    if plan is None or header is None or not surroundings:
        lacking = "plan" if plan is None else "header" if header is None else "surroundings"
        raise OpbenchError(f"{where}the parts hold no {lacking}; perhaps its listing is not up to date: try again")
    place = surroundings[0]
    apart = tuple(
        f"{one.environment.machine}: {'; '.join(reasons)}"
        for one in surroundings[1:]
        if (reasons := differences(place.environment, one.environment))
    )
    if apart:
        raise OpbenchError(
            f"{where}parts of machines that make no one run were put under one name ({'; '.join(apart)}); give each an "
            "address of its own"
        )
    run, missing = assembled(plan, header, place, entries, command)
    return MergedRun(type_, run, missing)


def assembled(
    plan: Plan, header: Header, place: Surroundings, entries: Sequence[Entry], command: str
) -> tuple[Run, int]:
    """The document of one run's entries, and how many visits of its panels are not among them."""
    finished = {(entry.replica, entry.panel): entry for entry in entries if isinstance(entry, PanelFinished)}
    visits = header.settings.replicas
    reached, left = visited(plan, finished)
    known = {panel.id for panel in reached}
    run = composed(
        plan,
        header.settings,
        Machines(place.environment, place.yardsticks, ()),
        started=header.started,
        command=command,
        panels=reached,
        records=records_of(reached, visits, finished, place.yardsticks),
        skipped=[Skipped(case.id, "not among the parts that were merged") for panel in left for case in panel.cases],
        places=[place],
        visits=[finished[key] for key in sorted(finished) if key[1] in known],
        first_calls=[entry for entry in entries if isinstance(entry, FirstCalled)],
    )
    planned = {panel.id for panel in plan.panels}
    return run, len(planned) * visits - sum(panel in planned for _, panel in finished)
