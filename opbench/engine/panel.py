"""One panel: build, verify, count, measure, verify again. A case that fails costs itself, never the panel."""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from opbench.build import Built, build
from opbench.measure.cuda import ColdEvents, HotGraph
from opbench.measure.latency import Clock, WallClock, measure_panel
from opbench.measure.macs import count
from opbench.measure.memory import measure_memory
from opbench.schema import Case, Counts, Latency, Memory, Outcome, Panel, Record, Settings, Verdict
from opbench.verify.gate import Reference, call, check, reference


@dataclass
class Stopwatch:
    """Wall time spent inside measured or verified calls, as opposed to around them."""

    seconds: float = 0.0

    def time(self, work: Callable[[], Any]) -> Any:
        """Runs `work` on the clock."""
        begin = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds += time.perf_counter() - begin


@dataclass
class _Entry:
    """What is known of one case while its panel runs."""

    case: Case
    built: Built | None = None
    expected: Reference | None = None
    first_call_seconds: float = 0.0
    outcome: Outcome = "ok"
    message: str = ""
    verdict: Verdict | None = None
    final_verdict: Verdict | None = None
    counts: Counts | None = None
    memory: Memory | None = None
    latencies: list[Latency] = field(default_factory=list)
    last: tuple[torch.Tensor, ...] = ()
    notes: list[str] = field(default_factory=list)

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

    def fail(self, error: Exception) -> None:
        """Names the failure. The exceptions of a contender are anybody's: whatever it raises is its outcome."""
        self.outcome = _outcome(error)
        self.message = _one_line(error)


def run_panel(panel: Panel, settings: Settings, stopwatch: Stopwatch) -> list[Record]:
    """Measures every case of a panel; one record per case, in the panel's order."""
    entries = [_Entry(case) for case in panel.cases]
    references: dict[str, Reference] = {}
    for entry in entries:
        _attempt(entry, lambda entry: _verify(entry, references, stopwatch))
    for entry in entries:
        _attempt(entry, lambda entry: _count(entry, stopwatch))
    _time(entries, panel, settings, stopwatch)
    for entry in entries:
        if entry.latencies:
            _attempt(entry, lambda entry: _verify_again(entry, stopwatch))
    return [entry.record() for entry in entries]


def _attempt(entry: _Entry, step: Callable[[_Entry], None]) -> None:
    if entry.outcome != "ok":
        return
    try:
        step(entry)
    except Exception as error:  # a contender may raise anything; the outcome and message name it
        entry.fail(error)


def _verify(entry: _Entry, references: dict[str, Reference], stopwatch: Stopwatch) -> None:
    """Builds the case and holds its first calls against the definition. A wrong answer is never timed."""
    entry.built = built = build(entry.case)
    if entry.case.operator not in references:
        references[entry.case.operator] = stopwatch.time(lambda: reference(built))
    entry.expected = references[entry.case.operator]
    begin = time.perf_counter()
    stopwatch.time(lambda: _synchronised(built))
    entry.first_call_seconds = time.perf_counter() - begin
    entry.verdict = stopwatch.time(lambda: check(built, references[entry.case.operator]))
    _convict(entry, entry.verdict)


def _verify_again(entry: _Entry, stopwatch: Stopwatch) -> None:
    """The result of the last timed call is still right: no stale cache, no drifting state, no other code timed."""
    built, expected = entry.built, entry.expected
    assert built is not None
    assert expected is not None
    got = dict(zip(("output", *built.differentiated), entry.last, strict=True))
    entry.final_verdict = stopwatch.time(lambda: expected.judge(got))
    _convict(entry, entry.final_verdict)


def _convict(entry: _Entry, verdict: Verdict) -> None:
    if not verdict.correct:
        entry.outcome, entry.message = "incorrect", verdict.reason


def _count(entry: _Entry, stopwatch: Stopwatch) -> None:
    assert entry.built is not None
    built = entry.built
    entry.counts = stopwatch.time(lambda: count(entry.case, built))
    entry.memory = stopwatch.time(lambda: measure_memory(built))


def _time(entries: Sequence[_Entry], panel: Panel, settings: Settings, stopwatch: Stopwatch) -> None:
    """Times all correct cases together, by each method; one that raises is taken out and the rest timed again."""
    for clock in _clocks(panel.cases[0]):
        while running := [entry for entry in entries if entry.outcome == "ok"]:
            latencies = stopwatch.time(functools.partial(_time_once, running, panel, settings, clock))
            if latencies is None:
                continue
            for entry in running:
                if entry.case.contender in latencies:
                    entry.latencies.append(latencies[entry.case.contender])
            break


def _time_once(running: Sequence[_Entry], panel: Panel, settings: Settings, clock: Clock) -> dict[str, Latency] | None:
    """One timing of the panel by one method; None if a contender raised, which is then marked as failed."""
    guilty: list[_Entry] = []
    calls = {}
    for entry in running:
        timed = _guarded(entry, guilty)
        try:
            clock.prepare(timed)
        except Exception as error:  # not timed by this method, and said so; the other methods still count
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
            first_call_seconds={entry.case.contender: entry.first_call_seconds for entry in running},
            seed=settings.seed + zlib.crc32(panel.id.encode()),
        )
    except Exception as error:  # a contender may raise anything; anything else is a fault of opbench
        if not guilty:
            raise
        guilty[0].fail(error)
        return None


def _guarded(entry: _Entry, guilty: list[_Entry]) -> Callable[[], object]:
    """The call as it is timed.

    It keeps its last result for the verdict after timing, and an exception marks its contender as the guilty one on
    its way out.
    """
    built = entry.built
    assert built is not None
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


def _clocks(case: Case) -> Iterator[Clock]:
    """The timing methods of a case's device, each made when it is needed: the cold one holds a large buffer."""
    if case.device == "cpu":
        yield WallClock()
        return
    yield ColdEvents()
    yield HotGraph()


def _synchronised(built: Built) -> None:
    call(built)
    if built.case.device == "cuda":
        torch.cuda.synchronize()


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
