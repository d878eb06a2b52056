"""Run documents of parts: whoever reads the same parts makes the same documents, and no writer is asked.

Parts are of one run: one header, one plan. What was measured in surroundings that make times no part of one run
(another machine, GPU, version of torch) is refused by name: one document would hold it as if it were. Machines that are
alike each keep their yardsticks, and the nodes of a fleet their names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from opbench.engine.composing import composed, of_panel, plausible, visited
from opbench.engine.entries import FirstCalled, Header, PanelFinished, Surroundings
from opbench.engine.machines import measured_on, pooled
from opbench.engine.parts import StoredParts
from opbench.engine.resuming import differences
from opbench.schema import OpbenchError, Plan, Record, Run, Skipped

# visit_of(replica, panel's id): what was finished, or None. Asked for once.
VisitOf = Callable[[int, str], PanelFinished | None]


class MergedRun(NamedTuple):
    """The document of one node type; `missing` visits of panels aren't among the parts."""

    type: str
    run: Run
    missing: int


def merged(parts: StoredParts, command: str = "") -> tuple[MergedRun, ...]:
    """The run of each node type that parts are of. Raises OpbenchError where a plan or a header is missing.

    Lines of panels are taken out of `parts` as they are read: a large run is not held twice.
    """
    if not parts.lines:
        raise OpbenchError("holds no part of a run")
    return tuple(_merged(parts, type_, command) for type_ in sorted(parts.types))


def _merged(parts: StoredParts, type_: str, command: str) -> MergedRun:
    where = f"{type_}: " if type_ else ""
    plan, entries, visits = parts.plan(type_), parts.entries(type_, "header", "where", "first"), parts.visits(type_)
    header = next((entry for entry in entries if isinstance(entry, Header)), None)
    places = [entry for entry in entries if isinstance(entry, Surroundings)]
    if plan is None or header is None or not places:
        lacking = "plan" if plan is None else "header" if header is None else "surroundings"
        raise OpbenchError(f"{where}the parts hold no {lacking}; perhaps its listing is not up to date: try again")
    apart = tuple(
        f"{one.node or one.environment.machine}: {'; '.join(reasons)}"
        for one in places[1:]
        if (reasons := differences(places[0].environment, one.environment))
    )
    if apart:
        raise OpbenchError(
            f"{where}parts of machines that make no one run were put under one name ({'; '.join(apart)}); give each an "
            "address of its own"
        )
    first_calls = [entry for entry in entries if isinstance(entry, FirstCalled)]
    run, missing = assembled(plan, header, places, visits.take, first_calls, command)
    return MergedRun(type_, run, missing)


def assembled(
    plan: Plan,
    header: Header,
    places: Sequence[Surroundings],
    visit_of: VisitOf,
    first_calls: Sequence[FirstCalled],
    command: str,
) -> tuple[Run, int]:
    """The document of one run's entries, and how many visits of its panels are not among them.

    Visits are asked for panel by panel, and their records merged at once: they are most of what a run holds.
    """
    count = header.settings.replicas
    records: list[Record] = []
    outlines: dict[tuple[int, str], PanelFinished] = {}
    missing = 0
    for panel in plan.panels:
        found = {(at, panel.id): entry for at in range(count) if (entry := visit_of(at, panel.id)) is not None}
        missing += count - len(found)
        if (0, panel.id) in found:
            records += of_panel(panel, count, found)
            outlines.update((key, replace(entry, records=())) for key, entry in found.items())
    reached, left = visited(plan, outlines)
    machines = measured_on(_by_node(places), outlines)
    run = composed(
        plan,
        header.settings,
        machines,
        started=header.started,
        command=command,
        panels=reached,
        records=[plausible(record, machines.yardsticks) for record in records],
        skipped=[Skipped(case.id, "not among the parts that were merged") for panel in left for case in panel.cases],
        places=places,
        visits=[outlines[key] for key in sorted(outlines)],
        first_calls=first_calls,
    )
    return run, missing


def _by_node(places: Sequence[Surroundings]) -> dict[str, Surroundings]:
    """Each node's surroundings, with the yardsticks of every time that it was surveyed.

    Without a name ("") stand all machines that have put parts at one address, each by a run of its own.
    """
    by_name: dict[str, list[Surroundings]] = {}
    for one in places:
        by_name.setdefault(one.node, []).append(one)
    return {name: replace(own[0], yardsticks=pooled(own)) for name, own in sorted(by_name.items())}
