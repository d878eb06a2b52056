"""How long a plan will take, before it is run: a sum of what is known to take time, with what each figure rests on.

A budget bounds the timing of a panel from above, precision usually ends it sooner; so this is the time to reserve, not
the time to expect. The log of a run (run.log) has the real one of every panel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from opbench.plural import counted
from opbench.schema import Case, Device, Panel, Plan, Run, Settings

# Importing torch and the declarations, the worker's start, reading the environment, writing the report.
START_SECONDS = 25.0
# Copy and matrix product of one dtype, with the warm-up before them.
YARDSTICK_SECONDS = 1.5
# A later visit of every panel starts an interpreter and imports torch; of each case it builds, warms up and judges a
# sample, and evaluates no definition. The budget is shared by all visits.
START_AGAIN_SECONDS = 8.0
AGAIN_SECONDS = 0.1


class Rates(NamedTuple):
    """Seconds by device: for each timing method, for a case (built, called, checked, counted), warming up included;

    for an element (closed form) of the largest case, drawn on the CPU once for a workload (`draw`), judged for each
    case in inference (`judge`), training taking four times that and sampling six times; and for a first meeting of a
    kernel with a shape and dtype (`compile`).
    """

    methods: int
    case: float
    panel: float
    draw: float
    judge: float
    compile: float


# draw: torch.randn in float64 makes 40 million a second on one core of a server. judge on the CPU: the definition of
# one image of 56x56x128 took 0.6 s on two cores of a Xeon; on CUDA about 300 passes over its float64 elements at 2
# TB/s. compile: Triton took 0.2 to 0.5 s a kernel and candidate (CARAFE 0.2, DCNv3 0.25 forward and 0.5 backward, one
# busy core of a Xeon), of which forward has three at most and backward three or six; timing a candidate takes 0.05 s.
RATES: Mapping[Device, Rates] = {
    "cpu": Rates(methods=1, case=0.15, panel=0.1, draw=2.5e-8, judge=5e-7, compile=1.0),
    "cuda": Rates(methods=2, case=0.3, panel=0.5, draw=2.5e-8, judge=2e-9, compile=0.8),
}
TRAINING = 4
# A definition that samples reads nine points for each element: DCNv3's took 17 s for 2.9 million elements on one busy
# core of a Xeon, of which two share a part.
SAMPLING = 6


def seconds(plan: Plan, settings: Settings, panels: Mapping[str, float] | None = None) -> float:
    """An upper estimate of the wall time of a plan; `panels` are those of its panels, where they are known already."""
    yardsticks = {(panel.cases[0].device, panel.cases[0].dtype) for panel in plan.panels}
    again = settings.replicas - 1
    total = START_SECONDS + YARDSTICK_SECONDS * len(yardsticks) + again * START_AGAIN_SECONDS
    return total + sum((panel_seconds(plan, settings) if panels is None else panels).values())


def panel_seconds(plan: Plan, settings: Settings) -> dict[str, float]:
    """An upper estimate of each panel's wall time, all its visits together.

    What is drawn and compiled once for several panels counts with the first of them.
    """
    drawn: set[tuple[object, ...]] = set()
    compiled: set[tuple[object, ...]] = set()
    again = settings.replicas - 1
    return {
        panel.id: _panel(panel, settings.budget_seconds, drawn, compiled) + again * AGAIN_SECONDS * len(panel.cases)
        for panel in plan.panels
    }


def seconds_of(run: Run) -> dict[str, float]:
    """How long each panel of an earlier run took, by its nodes or, of a run on one machine, by its samples.

    The samples are without what was built, checked and counted beside them, of which a panel has more the more it has
    of cases: they tell longer panels from shorter ones.
    """
    took: dict[str, float] = {}
    for node in run.nodes:
        for visit in node.visits:
            took[visit.panel] = took.get(visit.panel, 0.0) + visit.wall_seconds
    if took:
        return took
    for record in run.records:
        spent = math.fsum(
            sample * latency.calls_per_sample
            for latency in record.latencies
            for samples in latency.samples_seconds
            for sample in samples
            if math.isfinite(sample)
        )
        took[record.case.panel_id] = took.get(record.case.panel_id, 0.0) + spent
    return took


def estimate(plan: Plan, settings: Settings, panels: Mapping[str, float] | None = None) -> str:
    """The sentence that --dry-run ends with."""
    if not plan.panels:
        return "nothing would be measured here"
    visits = f" over {settings.replicas} visits" if settings.replicas > 1 else ""
    minutes = seconds(plan, settings, panels) / 60
    return (
        f"at most about {minutes:.1f} minutes: {counted(len(plan.panels), 'panel')}, each timed for up to "
        f"{settings.budget_seconds:g} s a method{visits}; --within SECONDS ends a run in time and keeps what comes "
        "first"
    )


def _panel(panel: Panel, budget: float, drawn: set[tuple[object, ...]], compiled: set[tuple[object, ...]]) -> float:
    first = panel.cases[0]
    rates = RATES[first.device]
    elements = _elements(panel)
    again = TRAINING if first.mode == "training" else 1
    total = rates.panel + rates.methods * budget + rates.case * len(panel.cases)
    judged = {(case.operator, case.variant): case for case in panel.cases}
    total += rates.judge * elements * again * sum(SAMPLING if _samples(case) else 1 for case in judged.values())
    draw = (first.task, first.workload, first.spread)
    if draw not in drawn:
        drawn.add(draw)
        total += rates.draw * elements
    for case in panel.cases:
        sizes = (*case.dims.items(), *case.settings.items())
        kind = (case.task, case.operator, case.implementation, sizes, case.dtype, case.mode)
        if case.implementation in ("triton", "cpu", "compiled") and kind not in compiled:
            compiled.add(kind)
            total += rates.compile * (2 if case.mode == "training" else 1)
    return total


def _samples(case: Case) -> bool:
    from opbench import registry

    return registry.operator(case.task, case.operator).deformable


def _elements(panel: Panel) -> int:
    from opbench import registry

    def of(case: Case) -> int:
        try:
            return registry.operator(case.task, case.operator).cost(registry.given(case)).elements
        except Exception:  # a user's closed form; measuring the case says what is wrong with it
            return 0

    return max(map(of, panel.cases))
