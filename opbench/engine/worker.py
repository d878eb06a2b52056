"""The process that panels are measured in: takes one assignment after the other (see `fork_server`)."""

from __future__ import annotations

import functools
import gc
import os
import threading
import traceback
from pathlib import Path

import torch

from opbench import registry
from opbench.engine import state
from opbench.engine.check_case import Stopwatch
from opbench.engine.environment import environment
from opbench.engine.messages import (
    Assignment,
    Began,
    CalledFirst,
    CallFirst,
    Measure,
    PanelMeasured,
    Survey,
    Surveyed,
)
from opbench.engine.panel import Context, run_panel
from opbench.measure.disturbance import DisturbanceGuard
from opbench.measure.first_call import measure_first_call
from opbench.measure.probes import Probes
from opbench.measure.watching import DisturbanceWatch
from opbench.measure.yardsticks import measure_yardsticks
from opbench.process.channel import Channel, ChildBroken, ChildRefused
from opbench.process.heartbeat import Heartbeat
from opbench.schema import OpbenchError, Yardstick


class Worker:
    """What a worker holds from one assignment to the next."""

    def __init__(self, wire: Channel, heartbeat: Heartbeat) -> None:
        self.wire, self.heartbeat = wire, heartbeat
        self._extensions: tuple[str, ...] = ()

    def work(self, first: Assignment) -> int:
        """Takes one assignment after the other; the exit code when there are no more, or this process is worn."""
        state.plain()
        following: Assignment | None = first
        while following is not None:
            self.wire.send(Began(following.number, os.getpid()))
            result = self._answer(following)
            self.wire.send(result)
            if isinstance(result, PanelMeasured) and result.worn:
                break
            following = self.wire.receive(Assignment)
        return 0

    def _answer(self, assignment: Assignment) -> Surveyed | PanelMeasured | CalledFirst | ChildRefused | ChildBroken:
        try:
            self._prepare(assignment)
            match assignment.work:
                case Survey():
                    return survey(assignment.work)
                case Measure():
                    return measure(assignment.work, self.heartbeat)
                case CallFirst():
                    return call_first(assignment.work, self._extensions)
        except OpbenchError as error:
            return ChildRefused(str(error))
        except Exception:
            return ChildBroken(traceback.format_exc())

    def _prepare(self, assignment: Assignment) -> None:
        if assignment.threads is not None:
            torch.set_num_threads(assignment.threads)
        for path in assignment.extensions:
            if path not in self._extensions:
                registry.load_file(path)
                self._extensions += (path,)


def survey(work: Survey) -> Surveyed:
    """Reads the environment and measures the yardsticks."""
    stopwatch = Stopwatch()
    surroundings = environment(work.cores)
    yardsticks: list[Yardstick] = []
    for device, dtype in work.yardsticks:
        yardsticks += stopwatch.time(functools.partial(measure_yardsticks, device, dtype, work.memory_bytes))
    return Surveyed(surroundings, tuple(yardsticks), stopwatch.seconds)


def call_first(work: CallFirst, extensions: tuple[str, ...]) -> CalledFirst:
    """Times a first call, with as many threads as this process has."""
    stopwatch = Stopwatch()
    first_call = stopwatch.time(lambda: measure_first_call(work.case, extensions))
    return CalledFirst(first_call, stopwatch.seconds)


def _watch(work: Measure) -> DisturbanceWatch | None:
    """What watches a panel for disturbance; None where nothing can, or where it was asked to be let alone."""
    case, threads = work.panel.cases[0], torch.get_num_threads()
    # Backward has threads of its own, which wait for forward's while those still spin: with several threads a training
    # call waits for itself, and the kernel's counters can't tell that from another process.
    waits_for_itself = case.mode == "training" and threads > 1
    if case.device != "cpu" or work.settings.share_cpu or waits_for_itself:
        return None
    around = _disturbance_watch(threads)
    around.knows(work.best)
    return around


@functools.cache
def _disturbance_watch(threads: int) -> DisturbanceWatch:
    """That of this process. Its probes keep threads, so it is made before a panel's are counted."""
    return DisturbanceWatch(DisturbanceGuard(), Probes(threads))


def measure(work: Measure, heartbeat: Heartbeat) -> PanelMeasured:
    """Measures a panel. Threads that a contender left running make the process worn."""
    stopwatch = Stopwatch()
    around = _watch(work)
    threads = threading.active_count()
    context = Context(
        stopwatch,
        heartbeat.beat,
        work.memory_bytes,
        work.calls_per_sample,
        work.counting,
        around,
        Path(work.answers) if work.answers else None,
    )
    records = run_panel(work.panel, work.settings, context)
    gc.collect()  # a panel's tensors must not weigh on the next one
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return PanelMeasured(
        tuple(records),
        stopwatch.seconds,
        worn=threading.active_count() > threads,
        probes=around.probed(work.panel.id, work.replica) if around else None,
        best=around.best if around else None,
    )
