"""The document of what was measured: the same from a journal as from the parts of one that were merged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from opbench.engine.entries import FirstCalled, PanelFinished, Surroundings
from opbench.engine.machines import Machines
from opbench.engine.replicas import merge
from opbench.schema import SCHEMA_VERSION, Case, Panel, Plan, Record, Run, Settings, Skipped, Yardstick
from opbench.statistics.roofline import implausible, roofline

# What was finished, by visit and panel.
Finished = Mapping[tuple[int, str], PanelFinished]


def visited(plan: Plan, finished: Finished) -> tuple[tuple[Panel, ...], tuple[Panel, ...]]:
    """The panels that were visited at least once, and the others."""
    reached = tuple(panel for panel in plan.panels if (0, panel.id) in finished)
    return reached, tuple(panel for panel in plan.panels if (0, panel.id) not in finished)


def records_of(
    panels: Sequence[Panel], visits: int, finished: Finished, yardsticks: Sequence[Yardstick]
) -> tuple[Record, ...]:
    """Each case's record over all its visits, panel by panel; what no machine can have done is implausible."""
    merged = (record for panel in panels for record in of_panel(panel, visits, finished))
    return tuple(plausible(record, yardsticks) for record in merged)


def composed(
    plan: Plan,
    settings: Settings,
    machines: Machines,
    *,
    started: str,
    command: str,
    panels: Sequence[Panel],
    records: Sequence[Record],
    skipped: Sequence[Skipped],
    places: Sequence[Surroundings],
    visits: Sequence[PanelFinished],
    first_calls: Sequence[FirstCalled],
    more_seconds: float = 0.0,
) -> Run:
    """The document. `skipped` are those that time or parts lacked for; `more_seconds` went by for nothing of these."""
    timed: tuple[Surroundings | PanelFinished | FirstCalled, ...] = (*places, *visits, *first_calls)
    return Run(
        schema_version=SCHEMA_VERSION,
        settings=settings,
        environment=machines.environment,
        command=command,
        started=started,
        # Exact: the same parts in another order give the same bytes.
        wall_seconds=math.fsum((more_seconds, *(entry.wall_seconds for entry in timed))),
        called_seconds=math.fsum(entry.called_seconds for entry in timed),
        panels=tuple(panels),
        records=tuple(records),
        skipped=(*plan.skipped, *skipped),
        yardsticks=machines.yardsticks,
        targets=plan.targets,
        first_calls=tuple(entry.first_call for entry in first_calls),
        probes=tuple(entry.probes for entry in visits if entry.probes is not None),
        nodes=machines.nodes,
    )


def of_panel(panel: Panel, visits: int, finished: Finished) -> list[Record]:
    """The panel's records over all its visits, in the panel's order."""
    by_case: dict[str, list[Record]] = {}
    for visit in range(visits):
        if entry := finished.get((visit, panel.id)):
            for record in entry.records:
                by_case.setdefault(record.case.id, []).append(record)
    return [_planned(case, merge(found, visits)) for case in panel.cases if (found := by_case.get(case.id))]


def _planned(case: Case, record: Record) -> Record:
    """The record with the plan's own case, which it was measured as: a large run holds each of them once."""
    return replace(record, case=case) if record.case == case else record


def plausible(record: Record, yardsticks: Sequence[Yardstick]) -> Record:
    """The record, or its outcome where it is faster than the machine can move its bytes."""
    limit = roofline(yardsticks, record.case, record.counts) if record.outcome == "ok" else None
    for latency in record.latencies:
        if why := implausible(limit, latency):
            return replace(record, outcome="implausible", message=why, latencies=())
    return record
