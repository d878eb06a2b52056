"""The latency stage of a panel: all correct cases interleaved, by each timing method of their device."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from opbench.engine import state
from opbench.engine.case_state import CaseState, end_with_the_device, one_line
from opbench.engine.check_case import Stopwatch
from opbench.engine.steps import CaseStep
from opbench.measure.cuda import ColdEvents, HotGraph, TorchDevice
from opbench.measure.latency import Clock, WallClock, measure_panel
from opbench.measure.throttle import NvmlGauge, ThrottleGuard
from opbench.schema import Case, Latency, Panel, Settings

# announce(contender, step): whose code runs next, for the heartbeat
Announce = Callable[[int | None, int], None]


def time_panel(
    cases: Sequence[CaseState],
    panel: Panel,
    settings: Settings,
    *,
    stopwatch: Stopwatch,
    announce: Announce,
    calls_per_sample: Mapping[str, Mapping[str, int]],
) -> None:
    """Times all correct cases together, by each method; one that raises is taken out and the rest timed again."""
    for clock, guard in clocks(panel.cases[0], cases):
        calls = calls_per_sample.get(clock.method)
        while running := [case for case in cases if case.outcome == "ok"]:
            work = functools.partial(_time_once, running, panel, settings, announce, calls, clock, guard)
            latencies = stopwatch.time(work)
            if latencies is None:
                continue
            for case in running:
                if latency := latencies.get(case.case.contender):
                    case.latencies.append(latency)
                    _judge_throttling(case, latency, guard)
            break


def _judge_throttling(case: CaseState, latency: Latency, guard: ThrottleGuard | None) -> None:
    if latency.stop == "throttled" and guard is not None:
        (samples,) = latency.samples_seconds
        discarded = sum(sample != sample for sample in samples)
        case.outcome = "throttled"
        case.message = f"{latency.method}: {discarded} of {len(samples)} samples discarded: {guard.why}"


def _time_once(
    running: Sequence[CaseState],
    panel: Panel,
    settings: Settings,
    announce: Announce,
    calls_per_sample: Mapping[str, int] | None,
    clock: Clock,
    guard: ThrottleGuard | None,
) -> dict[str, Latency] | None:
    """One timing of the panel by one method; None if a contender raised, which is then marked as failed."""
    before = state.state()
    guilty: list[CaseState] = []
    calls = {}
    for case in running:
        timed = _guarded(case, guilty)
        announce(case.position, CaseStep.TIME)
        try:
            clock.prepare(timed)
        except Exception as error:  # not timed by this method, and said so; the other methods still count
            end_with_the_device(case.case, error)
            case.notes.append(f"{clock.method}: not timed: {one_line(error)}")
            guilty.clear()
        else:
            calls[case.case.contender] = timed
    try:
        return measure_panel(
            calls,
            panel.baseline if panel.baseline in calls else None,
            clock=clock,
            precision=settings.precision,
            budget_seconds=settings.budget_seconds,
            least_rounds=settings.least_rounds,
            first_call_seconds={case.case.contender: case.after_check().first_call_seconds for case in running},
            seed=settings.seed + zlib.crc32(panel.id.encode()),
            calls_per_sample=calls_per_sample,
            watch=_Blocks({case.case.contender: case for case in running}, announce, guilty),
            guard=guard,
        )
    except Exception as error:  # a contender may raise anything; anything else is a fault of opbench
        if not guilty:
            raise
        guilty[0].fail(error)
        guilty[0].notes += state.restore(before)
        return None


class _Blocks:
    """Around each block of calls: says whose it is, and puts back what it changed of the process's state."""

    def __init__(self, cases: Mapping[str, CaseState], announce: Announce, guilty: list[CaseState]) -> None:
        self._cases, self._announce, self._guilty = cases, announce, guilty
        self._state = state.state()

    def before(self, name: str) -> None:
        """The contender is about to be called."""
        self._announce(self._cases[name].position, CaseStep.TIME)
        self._state = state.state()

    def after(self, name: str) -> None:
        """The block is over."""
        try:
            self._cases[name].restore(self._state)
        except Exception:
            self._guilty.append(self._cases[name])
            raise


def _guarded(case: CaseState, guilty: list[CaseState]) -> Callable[[], object]:
    """The call as it is timed.

    It keeps its last result for the verdict after timing, and an exception marks its contender as the guilty one on
    its way out.
    """
    built = case.after_check().built
    module, inputs, grad_output = built.module, built.inputs, built.grad_output
    leaves = built.leaves()

    def inference() -> None:
        with torch.inference_mode():
            case.last = (module(*inputs),)

    def training() -> None:
        output = module(*inputs)
        case.last = (output.detach(), *torch.autograd.grad(output, leaves, grad_output))

    work = inference if grad_output is None else training

    def timed() -> None:
        try:
            work()
        except Exception:
            guilty.append(case)
            raise

    return timed


def clocks(first: Case, cases: Sequence[CaseState]) -> Iterator[tuple[Clock, ThrottleGuard | None]]:
    """The timing methods of a panel's device, each made when it is needed: the cold one holds a large buffer."""
    if first.device == "cpu":
        yield WallClock(), None
        return
    guard = None
    try:
        guard = ThrottleGuard(NvmlGauge(f"GPU-{torch.cuda.get_device_properties(0).uuid}"))
    except (OSError, ImportError) as error:
        for case in cases:
            case.notes.append(f"throttling not watched: {one_line(error)}")
    device = TorchDevice()
    yield ColdEvents(device, guard), guard
    yield HotGraph(device, guard), guard
