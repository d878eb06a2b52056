"""The stages of a panel, the way every case goes; a case that fails costs itself, never the panel.

Refuse what is too large -> build and verify -> count and measure memory -> latency, the whole panel interleaved ->
verify again -> record. A panel that is visited again, in a fresh process, is verified by a sample of the first visit's
answers and not counted again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from opbench import registry
from opbench.build import Built
from opbench.engine import state
from opbench.engine.case_state import CaseState
from opbench.engine.check_case import Stopwatch, changed_inputs, check_case, count_case
from opbench.engine.own_process import OwnProcess
from opbench.engine.steps import CaseStep
from opbench.engine.timing import Announce, time_panel
from opbench.kernels.triton import launch as triton_launch
from opbench.measure.macs import contradiction
from opbench.measure.prediction import may_exceed, predict
from opbench.measure.watching import DisturbanceWatch
from opbench.schema import Panel, Record, Settings
from opbench.verify.gate import Reference, reference
from opbench.verify.kept import keep, kept


@dataclass(frozen=True)
class Context:
    """How a panel is to be measured, beside its settings.

    `announce(contender, step)` is told whose code runs next. `memory_bytes`: a case on the CPU predicted to need more
    is not run; None asks nothing. `calls_per_sample` by method and contender is what an earlier process calibrated.
    `counting` is off at later visits of it. `around` watches what disturbs the panel; None: nothing does. `answers`:
    where the first visit keeps a sample of the definition's answers, by which later ones are judged. `process`
    is the worker's own; None where the process is somebody else's, too. `derive` gives the definition's answer to a
    case: this process evaluates it, or asks the judge's.
    """

    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    announce: Announce = lambda contender, step: None
    memory_bytes: int | None = None
    calls_per_sample: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    counting: bool = True
    around: DisturbanceWatch | None = None
    process: OwnProcess | None = None
    answers: Path | None = None
    derive: Callable[[Built], Reference] = reference


def run_panel(panel: Panel, settings: Settings, context: Context) -> list[Record]:
    """Measures every case of a panel; one record per case, in the panel's order."""
    cases = [CaseState(case, position, process=context.process) for position, case in enumerate(panel.cases)]
    references = kept(context.answers) if context.answers and not context.counting else {}
    for case in cases:
        _stage(CaseStep.PREDICT, case, context, lambda case: refuse_too_large(case, context))
    for case in cases:
        _stage(CaseStep.FIRST_CALL, case, context, lambda case: build_and_verify(case, references, context))
    if context.answers and context.counting:
        keep(references, context.answers)
    if context.counting:
        for case in cases:
            _stage(CaseStep.COUNT, case, context, lambda case: count_and_measure_memory(case, context))
    time_panel(
        cases,
        panel,
        settings,
        stopwatch=context.stopwatch,
        announce=context.announce,
        calls_per_sample=context.calls_per_sample,
        around=context.around,
    )
    for case in cases:
        if case.latencies:
            _stage(CaseStep.JUDGE, case, context, lambda case: verify_again(case, context))
        if case.left_threads:
            case.notes.append(f"left {case.left_threads} of its threads running")
    context.announce(None, CaseStep.IDLE)
    return [case.record() for case in cases]


def _stage(step: CaseStep, case: CaseState, context: Context, work: Callable[[CaseState], None]) -> None:
    """One stage of one case, unless it has failed before; what it changes of the process's state is put back."""
    if case.outcome != "ok":
        return
    context.announce(case.position, step)
    before = state.state()
    try:
        try:
            work(case)
        finally:
            case.restore(before)
    except Exception as error:  # a contender may raise anything; the outcome and message name it
        case.fail(error)


def refuse_too_large(case: CaseState, context: Context) -> None:
    """Names a case that is too large for this machine without running it."""
    if context.memory_bytes is None:
        return
    limit = context.memory_bytes if case.case.device == "cpu" else int(torch.cuda.mem_get_info()[1])
    if not may_exceed(case.case, limit):
        return
    needed, memory = predict(case.case)
    if needed is not None and needed > limit:
        case.outcome, case.memory = "out-of-memory", memory
        case.message = f"not run: predicted to need {needed / 2**30:.2f} GiB, and {limit / 2**30:.2f} GiB are allowed"


def build_and_verify(case: CaseState, references: dict[str, Reference], context: Context) -> None:
    """Builds the case and holds its first calls against the definition; what it chose on the way is a note."""

    def announce(definition: bool) -> None:
        context.announce(case.position, CaseStep.DEFINITION if definition else CaseStep.FIRST_CALL)

    chosen = len(triton_launch.choices())
    case.checked = check_case(case.case, references, context.stopwatch, announce, case.look, context.derive)
    case.notes += [f"chose tiles for {choice}" for choice in triton_launch.choices()[chosen:]]
    case.verdict = case.checked.verdict
    if case.verdict.basis:
        case.notes.append(case.verdict.basis)
    case.judge(case.verdict)


def count_and_measure_memory(case: CaseState, context: Context) -> None:
    """MACs and parameters by the counters, then the memory of a call."""
    built = case.after_check().built
    case.counts, case.memory = count_case(built, context.stopwatch)
    derived = built.operator.cost(registry.given(case.case)).derived
    if derived and (against := contradiction(case.counts)):
        case.outcome, case.message = "miscounted", against


def verify_again(case: CaseState, context: Context) -> None:
    """The result of the last timed call is still right: no stale cache, no drifting state, no other code timed."""
    built, expected = case.after_check().built, case.after_check().expected
    got = dict(zip(("output", *built.differentiated), case.last, strict=True))
    case.final_verdict = context.stopwatch.time(lambda: expected.judge(got))
    case.judge(case.final_verdict)
    if case.outcome == "ok" and (name := changed_inputs(built)):
        case.outcome, case.message = "incorrect", f"{name}: a timed call changed its input"
