"""`opbench run --executor ray`: what is printed of a run over many machines, and where its documents go."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from opbench.analyse.known_machine import known_machine
from opbench.engine.fleet.run import Fleet, measured_on_fleet, planned_fleet, type_folders
from opbench.exit_codes import Exit, of_outcomes
from opbench.options import loudness
from opbench.plural import counted
from opbench.report.lines import say
from opbench.report.run_summary import show_run
from opbench.report.screen import Screen, print_plan, screen
from opbench.run_request import RunRequest
from opbench.schema import Run

if TYPE_CHECKING:
    from opbench.engine.delivery import Delivery

HEADER = ("node type", "accelerator", "nodes", "at once", "panels", "cases", "minutes at most")


def run_on_fleet(
    request: RunRequest,
    folder: Path,
    shown: Screen,
    report: Callable[[Run, Path], None],
    delivery: Delivery | None = None,
) -> Exit:
    """Measures a suite on the nodes of a cluster; `report(run, folder)` writes the document of each node type.

    `delivery` puts what is finished to an address. `shown` is where progress goes. With `--json` each node type has a
    document of its own.
    """
    with planned_fleet(request, _note) as fleet:
        found = [plan.laid_out for plan in fleet.plans]
        places = type_folders(fleet, folder)
        total = sum(len(one.plan.panels) * one.settings.replicas for one in found)
        if delivery is not None:
            for plan, place in zip(fleet.plans, places, strict=True):
                delivery.plan(plan.laid_out.plan, "" if place == folder else place.name)
        progress = shown.progress(total, "panel", "yardsticks")
        with delivery.beside(progress) if delivery else progress as told:
            known = functools.partial(known_machine, folder)
            runs = measured_on_fleet(fleet, request, places, tell=told, finish=report, known=known)
    if delivery is not None:
        delivery.finish()
    said = dict.fromkeys(sentence for one in found for sentence in (*one.broken, *one.said))
    for number, (done, place) in enumerate(runs):
        notes = () if number else tuple(said)
        at = shown_at(place, folder, delivery)
        show_run(screen(), done, notes, at, as_json=request.as_json, loudness=loudness(request), lang=request.lang)
    return of_outcomes(record.outcome for done, _ in runs for record in done.records)


def shown_at(place: Path, folder: Path, delivery: Delivery | None) -> str:
    """Where a reader finds what was worked on in a place of the run's folder."""
    return f"{delivery.address}/{place.relative_to(folder)}".removesuffix("/.") if delivery else str(place)


def dry_run_on_fleet(request: RunRequest) -> Exit:
    """Prints what each node type would measure, and how long it would take."""
    shown = screen()
    with planned_fleet(request, _note) as fleet:
        for plan in fleet.plans:
            print_plan(shown, plan.laid_out.plan)
        _print_types(shown, fleet)
    return Exit.FINE


def _print_types(shown: Screen, fleet: Fleet) -> None:
    shown.table(HEADER, [plan.told for plan in fleet.plans], counted(len(fleet.plans), "node type"))


def _note(sentence: str) -> None:
    say(f"opbench: {sentence}", error=True)
