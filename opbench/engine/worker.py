"""The process that panels are measured in: takes one assignment after the other (see `fork_server`)."""

from __future__ import annotations

import functools
import gc
import os
import time
import traceback
from pathlib import Path

import torch
from msgspec.structs import replace

from opbench import registry
from opbench.engine import state
from opbench.engine.check_case import Stopwatch
from opbench.engine.environment import environment
from opbench.engine.fingerprint import Fingerprint
from opbench.engine.judging.asking import JudgeElsewhere
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
from opbench.engine.own_process import OwnProcess
from opbench.engine.panel import Context, run_panel
from opbench.engine.steps import CaseStep
from opbench.measure.disturbance import DisturbanceGuard
from opbench.measure.first_call import measure_first_call
from opbench.measure.probes import Probes
from opbench.measure.watching import DisturbanceWatch
from opbench.measure.yardsticks import measure_yardsticks
from opbench.process.channel import Channel, ChildBroken, ChildRefused
from opbench.process.heartbeat import Heartbeat
from opbench.schema import OpbenchError, Yardstick
from opbench.verify.gate import reference


class Worker:
    """What a worker holds from one assignment to the next."""

    def __init__(
        self,
        wire: Channel,
        heartbeat: Heartbeat,
        fingerprint: Fingerprint | None = None,
        notes: tuple[str, ...] = (),
        outputs: int | None = None,
    ) -> None:
        self.wire, self.heartbeat = wire, heartbeat
        self._outputs = outputs  # the memory that the judge reads them in
        # Made before foreign code is loaded; this file's own is that early where nobody has made one before.
        self._fingerprint = fingerprint or Fingerprint()
        self._process: OwnProcess | None = None
        self._extensions: tuple[str, ...] = ()
        self._notes = notes

    def work(self, first: Assignment) -> int:
        """Takes one assignment after the other; the exit code when there are no more, or this process is worn."""
        state.plain()
        following: Assignment | None = first
        while following is not None:
            self.wire.send(Began(following.number, os.getpid()))
            result = self._answer(following)
            numbered = isinstance(result, Surveyed | PanelMeasured | CalledFirst)
            self.wire.send(replace(result, number=following.number) if numbered else result)
            if isinstance(result, PanelMeasured) and result.worn:
                break
            following = self.wire.receive(Assignment)
        return 0

    def _answer(self, assignment: Assignment) -> Surveyed | PanelMeasured | CalledFirst | ChildRefused | ChildBroken:
        try:
            process = self._prepare(assignment)
            match assignment.work:
                case Survey():
                    return survey(assignment.work)
                case Measure():
                    judge = None
                    if assignment.work.judged_apart and self._outputs is not None:
                        judge = JudgeElsewhere(self.wire, assignment.number, self._outputs)
                    return measure(assignment.work, self.heartbeat, process, self._notes, judge)
                case CallFirst():
                    return call_first(assignment.work, self._extensions)
        except OpbenchError as error:
            return ChildRefused(str(error))
        except Exception:
            return ChildBroken(traceback.format_exc())

    def _prepare(self, assignment: Assignment) -> OwnProcess:
        if self._process is None:
            if assignment.threads is not None:
                torch.set_num_threads(assignment.threads)
            self._process = OwnProcess(self._fingerprint)
        for path in assignment.extensions:
            if path not in self._extensions:
                self.heartbeat.beat(None, CaseStep.IMPORT)
                registry.load_file(path)
                self.heartbeat.beat(None, CaseStep.IDLE)
                self._extensions += (path,)
                self._notes += self._left(self._process, path)
        return self._process

    def _left(self, process: OwnProcess, loaded: str) -> tuple[str, ...]:
        """What importing a file has changed of the process, which is put back."""
        changes = state.restore(process.known)
        judges, tools = process.replaced(all_of_it=True)
        if judges:
            raise OpbenchError(f"--with {loaded}: importing it replaces {judges[0]}, by which contenders are judged")
        process.end_children(all_of_it=True)
        changes += [f"replaced {name}; put back" for name in tools]
        return tuple(f"importing {os.path.basename(loaded)} {change}" for change in changes)


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
    if case.device != "cpu" or work.settings.share_cpu:
        return None
    around = _disturbance_watch(threads)
    around.knows(work.best)
    return around


@functools.cache
def _disturbance_watch(threads: int) -> DisturbanceWatch:
    """That of this process. Its probes start torch's threads, so it is made before a panel's are counted."""
    return DisturbanceWatch(DisturbanceGuard(), Probes(threads))


def measure(
    work: Measure,
    heartbeat: Heartbeat,
    process: OwnProcess,
    notes: tuple[str, ...] = (),
    judge: JudgeElsewhere | None = None,
) -> PanelMeasured:
    """Measures a panel. Threads that a contender left running make the process worn.

    `notes` are of foreign files and installed packages: they stand on the records of what third parties have
    declared.
    """
    stopwatch = Stopwatch()
    around = _watch(work)
    threads = state.threads()
    state.restore(process.known)
    context = Context(
        stopwatch,
        heartbeat.beat,
        work.memory_bytes,
        work.calls_per_sample,
        work.counting,
        around,
        process,
        Path(work.answers) if work.answers else None,
        judge.reference if judge else reference,
    )
    records = run_panel(work.panel, work.settings, context)
    foreign = registry.extensions()
    records = [
        replace(record, notes=(*notes, *record.notes)) if (record.case.task, record.case.named) in foreign else record
        for record in records
    ]
    time.sleep(work.linger_seconds)
    gc.collect()  # a panel's tensors must not weigh on the next one
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return PanelMeasured(
        tuple(records),
        stopwatch.seconds,
        worn=state.threads() > threads,
        probes=around.probed(work.panel.id, work.replica) if around else None,
        best=around.best if around else None,
    )
