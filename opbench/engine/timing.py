"""The latency stage of a panel: all correct cases interleaved, by each timing method of their device."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from opbench import registry
from opbench.engine import state
from opbench.engine.audit import FIRST, Audit, Caught
from opbench.engine.busy_cores import BusyCores
from opbench.engine.case_state import CaseState, end_with_the_device, one_line
from opbench.engine.check_case import Stopwatch
from opbench.engine.steps import CaseStep
from opbench.measure.cuda import ColdEvents, HotGraph, TorchDevice
from opbench.measure.latency import Clock, WallClock, measure_panel
from opbench.measure.throttle import NvmlGauge, ThrottleGuard
from opbench.measure.watching import DisturbanceWatch
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
    around: DisturbanceWatch | None = None,
) -> None:
    """Times all correct cases together, by each method; one that raises is taken out and the rest timed again.

    What disturbs them is watched by `around`, if by anything. On the CPU each is audited between its timed blocks.
    """
    for clock, guard in clocks(panel.cases[0], cases):
        calls = calls_per_sample.get(clock.method)
        while running := [case for case in cases if case.outcome == "ok"]:
            work = functools.partial(_time_once, running, panel, settings, announce, calls, clock, guard, around)
            latencies = stopwatch.time(work)
            if latencies is None:
                continue
            for case in running:
                if latency := latencies.get(case.case.contender):
                    case.latencies.append(latency)
                    _judge_throttling(case, latency, guard)
                    _judge_disturbance(case, latency, around)
            break


def _judge_throttling(case: CaseState, latency: Latency, guard: ThrottleGuard | None) -> None:
    if latency.stop == "throttled" and guard is not None:
        (samples,) = latency.samples_seconds
        discarded = sum(sample != sample for sample in samples)
        case.outcome = "throttled"
        case.message = f"{latency.method}: {discarded} of {len(samples)} samples discarded: {guard.why}"


def _judge_disturbance(case: CaseState, latency: Latency, around: DisturbanceWatch | None) -> None:
    if latency.stop == "disturbed" and around is not None:
        (samples,) = latency.samples_seconds
        lost = len(latency.left_out[0]) if latency.left_out else 0
        case.outcome = "disturbed"
        case.message = (
            f"{around.guard.why}: it or its baseline, in {lost} of {len(samples)} rounds; "
            "use --threads auto, another hour, or --share-cpu to let such rounds count"
        )


def _time_once(
    running: Sequence[CaseState],
    panel: Panel,
    settings: Settings,
    announce: Announce,
    calls_per_sample: Mapping[str, int] | None,
    clock: Clock,
    guard: ThrottleGuard | None,
    around: DisturbanceWatch | None,
) -> dict[str, Latency] | None:
    """One timing of the panel by one method; None if a contender raised, which is then marked as failed."""
    before = state.state()
    guilty: list[CaseState] = []
    clock = BookedClock(clock)
    calls, audits = {}, {}
    for case in running:
        audit = _audit(case)
        if panel.cases[0].device == "cpu":
            audits[case.case.contender] = audit
        timed = _guarded(case, audit, guilty)
        announce(case.position, CaseStep.TIME)
        try:
            clock.prepare(timed)
        except Exception as error:  # not timed by this method, and said so; the other methods still count
            end_with_the_device(case.case, error)
            case.notes.append(f"{clock.method}: not timed: {one_line(error)}")
            guilty.clear()
        else:
            calls[case.case.contender] = timed
            audit.sample = functools.partial(clock.clock.sample, timed)
    blocks = _Blocks({case.case.contender: case for case in running}, audits, announce, guilty)
    try:
        latencies = measure_panel(
            calls,
            panel.baseline if panel.baseline in calls else None,
            clock=clock,
            precision=settings.precision,
            budget_seconds=settings.budget_seconds,
            least_rounds=settings.least_rounds,
            first_call_seconds={case.case.contender: case.after_check().first_call_seconds for case in running},
            seed=settings.seed + zlib.crc32(panel.id.encode()),
            calls_per_sample=calls_per_sample,
            watch=blocks,
            guard=guard,
            around=around,
        )
        for case in running:
            _hold_against_the_books(case, latencies.get(case.case.contender), clock, calls, guilty)
        for name, audit in audits.items():
            if name in calls:
                _complete(name, audit, blocks)
        return latencies
    except Exception as error:  # a contender may raise anything; anything else is a fault of opbench
        if not guilty:
            raise
        guilty[0].fail(error)
        guilty[0].notes += state.restore(before)
        return None
    finally:
        for audit in audits.values():
            audit.abandon()


class BookedClock:
    """A clock that keeps a book of its own: samples lie where a contender might reach them."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.method = clock, clock.method
        self._book: dict[int, list[float]] = {}

    def prepare(self, call: Callable[[], object]) -> None:
        """As the clock does."""
        self.clock.prepare(call)

    def sample(self, call: Callable[[], object], calls: int) -> float:
        """As the clock does, and written down."""
        seconds = self.clock.sample(call, calls)
        self._book.setdefault(id(call), []).append(seconds / calls)
        return seconds

    def now(self) -> float:
        """As the clock does."""
        return self.clock.now()

    def agrees(self, call: Callable[[], object], latency: Latency) -> bool:
        """Whether these are the last samples of the call; one that was discarded is none."""
        (samples,) = latency.samples_seconds
        booked = self._book.get(id(call), [])[-len(samples) or None :]
        pairs = zip(samples, booked, strict=False)
        return len(booked) >= len(samples) and all(one != one or one == ours for one, ours in pairs)


def _hold_against_the_books(
    case: CaseState,
    latency: Latency | None,
    clock: BookedClock,
    calls: Mapping[str, Callable[[], object]],
    guilty: list[CaseState],
) -> None:
    if latency is not None and not clock.agrees(calls[case.case.contender], latency):
        guilty.append(case)
        raise Caught("its samples are not those that the clock has shown")


def _complete(name: str, audit: Audit, blocks: _Blocks) -> None:
    """Audits once more, and makes up for what a contender's rounds were too few for, as where one spends the budget."""
    audit.conclude()
    for _ in range(2 * FIRST):
        if audit.complete:
            return
        blocks.before(name)
        audit.repeat()
        blocks.after(name)


class _Blocks:
    """Around each block of calls: says whose it is, puts back what it changed of the process's state, and audits it."""

    def __init__(
        self,
        cases: Mapping[str, CaseState],
        audits: Mapping[str, Audit],
        announce: Announce,
        guilty: list[CaseState],
    ) -> None:
        self._cases, self._audits, self._announce, self._guilty = cases, audits, announce, guilty
        self._state = state.state()

    def before(self, name: str) -> None:
        """The contender is about to be called."""
        self._announce(self._cases[name].position, CaseStep.TIME)
        self._state = state.state()
        if name in self._audits:
            self._audits[name].begin()

    def after(self, name: str) -> None:
        """The block is over."""
        try:
            if name in self._audits:
                self._audits[name].end()
            self._cases[name].restore(self._state, all_of_it=False)
        except Exception:
            self._guilty.append(self._cases[name])
            raise


def _audit(case: CaseState) -> Audit:
    """The case's call with what is looked at beside it."""
    built, expected = case.after_check().built, case.after_check().expected
    module, inputs, grad_output = built.module, built.inputs, built.grad_output
    leaves, names = built.leaves(), ("output", *built.differentiated)

    def inference() -> tuple[torch.Tensor, ...]:
        with torch.inference_mode():
            return (module(*inputs),)

    def training() -> tuple[torch.Tensor, ...]:
        output = module(*inputs)
        return (output.detach(), *torch.autograd.grad(output, leaves, grad_output))

    return Audit(
        work=inference if grad_output is None else training,
        judge=lambda results: expected.judge(dict(zip(names, results, strict=True))),
        inputs=inputs,
        draw=case.draw,
        busy=BusyCores(None if registry.opaque(case.case) else torch.get_num_threads()),
    )


def _guarded(case: CaseState, audit: Audit, guilty: list[CaseState]) -> Callable[[], object]:
    """The call as it is timed.

    It keeps its last result for the verdict after timing, and an exception marks its contender as the guilty one on
    its way out.
    """

    def timed() -> None:
        try:
            last = audit.call()
            if not audit.moved:  # the definition's answer is to the case's own values
                case.last = last
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
