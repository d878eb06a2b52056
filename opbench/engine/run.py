"""One run: the plan's panels one after another, yardsticks first, everything that was seen in one document."""

from __future__ import annotations

import datetime
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from opbench.engine.environment import environment
from opbench.engine.journal import Journal
from opbench.engine.panel import Stopwatch, run_panel
from opbench.measure.first_call import measure_first_call
from opbench.measure.yardsticks import measure_yardsticks
from opbench.schema import SCHEMA_VERSION, Case, Panel, Plan, Record, Run, Settings, Yardstick

Progress = Callable[[int, Panel | None], None]


def execute(plan: Plan, settings: Settings, folder: Path, *, command: str, progress: Progress) -> Run:
    """Runs a plan and returns its document. `progress(done, panel)` is told before each panel and at the end."""
    began = time.perf_counter()
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    # A float32 convolution through TF32 is a float32 result to 10 bits: no contender may trade that silently.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    stopwatch = Stopwatch()
    records: list[Record] = []
    with Journal(folder) as journal:
        surroundings = environment()
        measured = dict.fromkeys((panel.cases[0].device, panel.cases[0].dtype) for panel in plan.panels)
        yardsticks: list[Yardstick] = []
        for device, dtype in measured:
            yardsticks += stopwatch.time(functools.partial(measure_yardsticks, device, dtype))
        for done, panel in enumerate(plan.panels):
            progress(done, panel)
            outcome = run_panel(panel, settings, stopwatch)
            journal.append(outcome)
            records += outcome
        progress(len(plan.panels), None)
        first_calls = [
            stopwatch.time(functools.partial(measure_first_call, case, settings.extensions))
            for case in _first_called(plan, records)
        ]
        return Run(
            schema_version=SCHEMA_VERSION,
            settings=settings,
            environment=surroundings,
            command=command,
            started=started,
            wall_seconds=time.perf_counter() - began,
            called_seconds=stopwatch.seconds,
            panels=plan.panels,
            records=tuple(records),
            skipped=plan.skipped,
            yardsticks=tuple(yardsticks),
            targets=plan.targets,
            first_calls=tuple(first_calls),
        )


def _first_called(plan: Plan, records: Sequence[Record]) -> Iterator[Case]:
    """The cases whose first call the plan's targets ask for, those that were proven right."""
    asked = {
        (target.contender, target.task, target.workload, target.dtype, target.device, target.mode)
        for target in plan.targets
        if target.quantity.startswith("first-call")
    }
    for record in records:
        case = record.case
        if record.outcome == "ok" and (
            (case.contender, case.task, case.workload, case.dtype, case.device, case.mode) in asked
        ):
            yield case
