"""One panel: build, verify, count, measure, verify again. A case that fails costs itself, never the panel."""

from __future__ import annotations

import functools
import os
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from opbench import registry
from opbench.engine import board, state
from opbench.engine.proof import Proof, Stopwatch, changed_inputs, prove, tally
from opbench.kernels.triton import launch as triton_launch
from opbench.measure.cuda import ColdEvents, HotGraph, TorchDevice
from opbench.measure.latency import Clock, WallClock, measure_panel
from opbench.measure.macs import contradiction
from opbench.measure.prediction import may_exceed, predict
from opbench.measure.surroundings import Surroundings
from opbench.measure.throttle import NvmlGauge, ThrottleGuard
from opbench.schema import Case, Counts, Latency, Memory, Outcome, Panel, Record, Settings, Verdict
from opbench.verify.gate import Reference

# The exit code of a process whose CUDA context a contender has destroyed.
CONTEXT_LOST = 72
# announce(contender, step): whose code runs next, for whoever watches this process (see board.py)
Announce = Callable[[int | None, int], None]


@dataclass(frozen=True)
class Context:
    """How a panel is to be measured, beside its settings.

    `memory_bytes`: a case on the CPU predicted to need more is not run; None asks nothing. `calls_per_sample` by
    method and contender is what an earlier process calibrated. `counting` is off in replicas of it. `around` watches
    what disturbs a panel on the CPU; None: nothing does.
    """

    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    announce: Announce = lambda contender, step: None
    memory_bytes: int | None = None
    calls_per_sample: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    counting: bool = True
    around: Surroundings | None = None


@dataclass
class _Entry:
    """What is known of one case while its panel runs."""

    case: Case
    position: int
    proof: Proof | None = None
    outcome: Outcome = "ok"
    message: str = ""
    verdict: Verdict | None = None
    final_verdict: Verdict | None = None
    counts: Counts | None = None
    memory: Memory | None = None
    latencies: list[Latency] = field(default_factory=list)
    last: tuple[torch.Tensor, ...] = ()
    notes: list[str] = field(default_factory=list)
    left_threads: int = 0

    def record(self) -> Record:
        return Record(
            case=self.case,
            outcome=self.outcome,
            message=self.message,
            verdict=self.verdict,
            final_verdict=self.final_verdict,
            counts=self.counts,
            memory=self.memory,
            latencies=tuple(self.latencies) if self.outcome == "ok" else (),
            notes=tuple(self.notes),
        )

    def proven(self) -> Proof:
        assert self.proof is not None
        return self.proof

    def fail(self, error: Exception) -> None:
        """Names the failure. The exceptions of a contender are anybody's: whatever it raises is its outcome."""
        _end_with_the_device(self.case, error)
        self.outcome = _outcome(error)
        self.message = _one_line(error)

    def convict(self, verdict: Verdict) -> None:
        if not verdict.correct:
            self.outcome, self.message = "incorrect", verdict.reason

    def settle(self, before: state.State) -> None:
        """Puts back what the contender changed of the process's state since `before`; raises if it leaks threads."""
        for change in state.restore(before):
            if change not in self.notes:
                self.notes.append(change)
        more = threading.active_count() - before.threads
        if more > 0 and not _compiles(self.case):  # a compiler keeps threads of its own, once
            self.left_threads += more
            if self.left_threads > state.LEFT_THREADS_AT_MOST:
                raise RuntimeError(f"leaks threads: its calls have left {self.left_threads} of them running")


def run_panel(panel: Panel, settings: Settings, context: Context) -> list[Record]:
    """Measures every case of a panel; one record per case, in the panel's order."""
    entries = [_Entry(case, position) for position, case in enumerate(panel.cases)]
    references: dict[str, Reference] = {}
    for entry in entries:
        _attempt(entry, context, board.PREDICT, functools.partial(_predict, context=context))
    for entry in entries:
        _attempt(entry, context, board.FIRST_CALL, functools.partial(_verify, references=references, context=context))
    if context.counting:
        for entry in entries:
            _attempt(entry, context, board.COUNT, functools.partial(_count, context=context))
    _time(entries, panel, settings, context)
    for entry in entries:
        if entry.latencies:
            _attempt(entry, context, board.JUDGE, functools.partial(_verify_again, context=context))
        if entry.left_threads:
            entry.notes.append(f"left {entry.left_threads} of its threads running")
    context.announce(None, board.IDLE)
    return [entry.record() for entry in entries]


def _attempt(entry: _Entry, context: Context, step: int, work: Callable[[_Entry], None]) -> None:
    if entry.outcome != "ok":
        return
    context.announce(entry.position, step)
    before = state.state()
    try:
        try:
            work(entry)
        finally:
            entry.settle(before)
    except Exception as error:  # a contender may raise anything; the outcome and message name it
        entry.fail(error)


def _predict(entry: _Entry, context: Context) -> None:
    """Names a case that is too large for this machine without running it."""
    if context.memory_bytes is None or not may_exceed(entry.case, limit := _limit(entry.case, context.memory_bytes)):
        return
    needed, memory = predict(entry.case)
    if needed is not None and needed > limit:
        entry.outcome, entry.memory = "out-of-memory", memory
        entry.message = f"not run: predicted to need {needed / 2**30:.2f} GiB, and {limit / 2**30:.2f} GiB are allowed"


def _limit(case: Case, memory_bytes: int) -> int:
    return memory_bytes if case.device == "cpu" else int(torch.cuda.mem_get_info()[1])


def _verify(entry: _Entry, references: dict[str, Reference], context: Context) -> None:
    def announce(definition: bool) -> None:
        context.announce(entry.position, board.DEFINITION if definition else board.FIRST_CALL)

    chosen = triton_launch.choices()
    entry.proof = prove(entry.case, references, context.stopwatch, announce)
    entry.notes += [f"chose tiles for {choice}" for choice in triton_launch.choices()[len(chosen) :]]
    entry.verdict = entry.proof.verdict
    if entry.verdict.basis:
        entry.notes.append(entry.verdict.basis)
    entry.convict(entry.verdict)


def _verify_again(entry: _Entry, context: Context) -> None:
    """The result of the last timed call is still right: no stale cache, no drifting state, no other code timed."""
    built, expected = entry.proven().built, entry.proven().expected
    got = dict(zip(("output", *built.differentiated), entry.last, strict=True))
    entry.final_verdict = context.stopwatch.time(lambda: expected.judge(got))
    entry.convict(entry.final_verdict)
    if entry.outcome == "ok" and (name := changed_inputs(built)):
        entry.outcome, entry.message = "incorrect", f"{name}: a timed call changed its input"


def _count(entry: _Entry, context: Context) -> None:
    entry.counts, entry.memory = tally(entry.proven().built, context.stopwatch)
    if against := contradiction(entry.counts):
        entry.outcome, entry.message = "miscounted", against


def _time(entries: Sequence[_Entry], panel: Panel, settings: Settings, context: Context) -> None:
    """Times all correct cases together, by each method; one that raises is taken out and the rest timed again."""
    for clock, guard in _clocks(panel.cases[0], entries):
        while running := [entry for entry in entries if entry.outcome == "ok"]:
            work = functools.partial(_time_once, running, panel, settings, context, clock, guard)
            latencies = context.stopwatch.time(work)
            if latencies is None:
                continue
            for entry in running:
                if latency := latencies.get(entry.case.contender):
                    entry.latencies.append(latency)
                    _judge_throttling(entry, latency, guard)
                    _judge_disturbance(entry, latency, context.around)
            break


def _judge_throttling(entry: _Entry, latency: Latency, guard: ThrottleGuard | None) -> None:
    if latency.stop == "throttled" and guard is not None:
        (samples,) = latency.samples_seconds
        discarded = sum(sample != sample for sample in samples)
        entry.outcome = "throttled"
        entry.message = f"{latency.method}: {discarded} of {len(samples)} samples discarded: {guard.why}"


def _judge_disturbance(entry: _Entry, latency: Latency, around: Surroundings | None) -> None:
    if latency.stop == "disturbed" and around is not None:
        (samples,), (left_out,) = latency.samples_seconds, latency.left_out
        entry.outcome = "disturbed"
        entry.message = (
            f"{latency.method}: in {len(left_out)} of {len(samples)} rounds it or its baseline was disturbed, at worst "
            f"{around.guard.why}; ask for fewer threads (--threads auto), or for another hour"
        )


def _time_once(
    running: Sequence[_Entry],
    panel: Panel,
    settings: Settings,
    context: Context,
    clock: Clock,
    guard: ThrottleGuard | None,
) -> dict[str, Latency] | None:
    """One timing of the panel by one method; None if a contender raised, which is then marked as failed."""
    before = state.state()
    guilty: list[_Entry] = []
    calls = {}
    for entry in running:
        timed = _guarded(entry, guilty)
        context.announce(entry.position, board.TIME)
        try:
            clock.prepare(timed)
        except Exception as error:  # not timed by this method, and said so; the other methods still count
            _end_with_the_device(entry.case, error)
            entry.notes.append(f"{clock.method}: not timed: {_one_line(error)}")
            guilty.clear()
        else:
            calls[entry.case.contender] = timed
    try:
        return measure_panel(
            calls,
            panel.baseline if panel.baseline in calls else None,
            clock=clock,
            precision=settings.precision,
            budget_seconds=settings.budget_seconds,
            least_rounds=settings.least_rounds,
            first_call_seconds={entry.case.contender: entry.proven().first_call_seconds for entry in running},
            seed=settings.seed + zlib.crc32(panel.id.encode()),
            calls_per_sample=context.calls_per_sample.get(clock.method),
            watch=_Watch({entry.case.contender: entry for entry in running}, context.announce, guilty),
            guard=guard,
            around=context.around if panel.cases[0].device == "cpu" else None,
        )
    except Exception as error:  # a contender may raise anything; anything else is a fault of opbench
        if not guilty:
            raise
        guilty[0].fail(error)
        guilty[0].notes += state.restore(before)
        return None


class _Watch:
    """Around each block of calls: says whose it is, and puts back what it changed of the process's state."""

    def __init__(self, entries: Mapping[str, _Entry], announce: Announce, guilty: list[_Entry]) -> None:
        self._entries, self._announce, self._guilty = entries, announce, guilty
        self._state = state.state()

    def before(self, name: str) -> None:
        """The contender is about to be called."""
        self._announce(self._entries[name].position, board.TIME)
        self._state = state.state()

    def after(self, name: str) -> None:
        """The block is over."""
        try:
            self._entries[name].settle(self._state)
        except Exception:
            self._guilty.append(self._entries[name])
            raise


def _guarded(entry: _Entry, guilty: list[_Entry]) -> Callable[[], object]:
    """The call as it is timed.

    It keeps its last result for the verdict after timing, and an exception marks its contender as the guilty one on
    its way out.
    """
    built = entry.proven().built
    module, inputs, grad_output = built.module, built.inputs, built.grad_output
    leaves = built.leaves()

    def inference() -> None:
        with torch.inference_mode():
            entry.last = (module(*inputs),)

    def training() -> None:
        output = module(*inputs)
        entry.last = (output.detach(), *torch.autograd.grad(output, leaves, grad_output))

    work = inference if grad_output is None else training

    def timed() -> None:
        try:
            work()
        except Exception:
            guilty.append(entry)
            raise

    return timed


def _clocks(case: Case, entries: Sequence[_Entry]) -> Iterator[tuple[Clock, ThrottleGuard | None]]:
    """The timing methods of a case's device, each made when it is needed: the cold one holds a large buffer."""
    if case.device == "cpu":
        yield WallClock(), None
        return
    guard = None
    try:
        guard = ThrottleGuard(NvmlGauge(f"GPU-{torch.cuda.get_device_properties(0).uuid}"))
    except (OSError, ImportError) as error:
        for entry in entries:
            entry.notes.append(f"throttling not watched: {_one_line(error)}")
    device = TorchDevice()
    yield ColdEvents(device, guard), guard
    yield HotGraph(device, guard), guard


def _end_with_the_device(case: Case, error: Exception) -> None:
    """Ends the process if an error has cost it its CUDA context: after it, every other contender would fail, too.

    Who was on the board is then named as having ended it, and the panel is measured without it in a new process.
    """
    if case.device != "cuda" or isinstance(error, torch.OutOfMemoryError):
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        print(_one_line(error), file=sys.stderr, flush=True)
        os._exit(CONTEXT_LOST)


def _compiles(case: Case) -> bool:
    return registry.operator(case.task, case.operator).implementations[case.implementation].compiles


def _one_line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"


def _outcome(error: Exception) -> Outcome:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out-of-memory"
    text = str(error)
    if isinstance(error, NotImplementedError) or "not implemented for" in text:
        return "unsupported"
    if isinstance(error, RuntimeError) and "can't allocate memory" in text:
        return "out-of-memory"
    return "raised"
