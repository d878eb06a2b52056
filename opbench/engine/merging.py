"""Run documents of parts: whoever reads the same parts makes the same documents, and no writer is asked.

Parts are of one run: one header, one plan. What was measured in surroundings that make times no part of one run
(another machine, GPU, version of torch) is refused by name: one document would hold it as if it were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from opbench.engine.delivery import StoredParts
from opbench.engine.entries import Entry, FirstCalled, Header, PanelFinished, Surroundings
from opbench.engine.replicas import merge
from opbench.engine.resuming import differences
from opbench.schema import SCHEMA_VERSION, OpbenchError, Panel, Plan, Record, Run, Skipped, Yardstick
from opbench.statistics.roofline import implausible, roofline


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
    first_calls = [entry for entry in entries if isinstance(entry, FirstCalled)]
    visits = header.settings.replicas
    reached = tuple(panel for panel in plan.panels if (0, panel.id) in finished)
    known = {panel.id for panel in reached}
    left = [panel for panel in plan.panels if panel.id not in known]
    held = [finished[key] for key in sorted(finished) if key[1] in known]
    timed: list[Surroundings | PanelFinished | FirstCalled] = [place, *held, *first_calls]
    records = (record for panel in reached for record in _records(panel, visits, finished))
    run = Run(
        schema_version=SCHEMA_VERSION,
        settings=header.settings,
        environment=place.environment,
        command=command,
        started=header.started,
        wall_seconds=math.fsum(entry.wall_seconds for entry in timed),
        called_seconds=math.fsum(entry.called_seconds for entry in timed),
        panels=reached,
        records=tuple(_plausible(record, place.yardsticks) for record in records),
        skipped=(
            *plan.skipped,
            *(Skipped(case.id, "not among the parts that were merged") for panel in left for case in panel.cases),
        ),
        yardsticks=place.yardsticks,
        targets=plan.targets,
        first_calls=tuple(entry.first_call for entry in first_calls),
        probes=tuple(entry.probes for entry in held if entry.probes is not None),
    )
    planned = {panel.id for panel in plan.panels}
    return run, len(planned) * visits - sum(panel in planned for _, panel in finished)


def _records(panel: Panel, visits: int, finished: Mapping[tuple[int, str], PanelFinished]) -> list[Record]:
    """The panel's records over all its visits, in the panel's order."""
    by_case: dict[str, list[Record]] = {}
    for visit in range(visits):
        if entry := finished.get((visit, panel.id)):
            for record in entry.records:
                by_case.setdefault(record.case.id, []).append(record)
    return [merge(found, visits) for case in panel.cases if (found := by_case.get(case.id))]


def _plausible(record: Record, yardsticks: Sequence[Yardstick]) -> Record:
    """The record, or its outcome where it is faster than the machine can move its bytes."""
    limit = roofline(yardsticks, record.case, record.counts) if record.outcome == "ok" else None
    for latency in record.latencies:
        if why := implausible(limit, latency):
            return replace(record, outcome="implausible", message=why, latencies=())
    return record
