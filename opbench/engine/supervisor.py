"""The run's side of the worker: gives assignments, watches time and memory, and names who brought a worker down."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from types import TracebackType

from msgspec.structs import replace

from opbench import registry
from opbench.engine.forgery import forged
from opbench.engine.judging.ledger import Judging
from opbench.engine.judging.messages import AskJudge
from opbench.engine.limits import Fault, WorkerLimits, WorkerWatch
from opbench.engine.messages import (
    Assignment,
    Began,
    CalledFirst,
    CallFirst,
    Ended,
    Measure,
    Message,
    PanelMeasured,
    Survey,
    Surveyed,
)
from opbench.engine.steps import STATE_LOST
from opbench.measure.cores import CoreCount
from opbench.process.child import LOOK_SECONDS, Child
from opbench.process.death import Death, crashed, end_group
from opbench.process.heartbeat import Heartbeat
from opbench.process.memory import resident_bytes
from opbench.schema import Case, FirstCall, OpbenchError

FORK_SERVER = "opbench.engine.fork_server"
# A fork server that dies before a worker has begun is started again this often.
STARTS_AT_MOST = 3


class Supervisor:
    """One fork server and its worker, started when made: importing torch overlaps with what the caller does next."""

    def __init__(
        self,
        *,
        extensions: tuple[str, ...] = (),
        threads: int | None = None,
        limits: WorkerLimits | None = None,
        worker: str = FORK_SERVER,
        look: Callable[[int], int | None] | None = None,
        cores: CoreCount | None = None,
    ) -> None:
        self.extensions, self.threads, self.cores = extensions, threads, cores
        self.limits = limits or WorkerLimits()
        self._worker = worker
        self._look = look or resident_bytes
        self._number = 0
        self.best: tuple[float, float, float] | None = None  # the machine's fastest probes, over all its processes
        self._heartbeat = Heartbeat.make()
        # Started beside the worker, which imports as much.
        foreign = bool(extensions or registry.entry_points() or registry.added_files())
        self._judging = Judging(threads, self.limits.memory_bytes) if foreign else None
        self._answered: int | None = None  # the worker's last beat before the judge's last answer to it
        self._pid: int | None = None  # the worker's, from its `Began` to its `Ended`
        self._child: Child[Message] | None = None
        self._child = self._start(self.limits.memory_bytes)
        self.memory_bytes = self._child.memory_bytes

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if self._judging is not None:
            self._judging.close()
        self._heartbeat.close()

    def _start(self, memory_bytes: int | None) -> Child[Message]:
        fds = [self._heartbeat.file_descriptor]
        if self._judging is not None:
            fds.append(self._judging.file_descriptor)
        return Child(
            ["-m", self._worker, *map(str, fds)],
            Message,
            pass_fds=fds,
            memory_bytes=memory_bytes,
            output_bytes=self.limits.output_bytes,
            look=lambda pid: self._look(pid),
            broken="the measuring process failed, not a contender",
        )

    def _stop(self) -> None:
        if self._child is not None:
            last = self._heartbeat.last()
            if last.pid and self._pid == last.pid:
                end_group(last.pid)
            self._child.stop()
        self._child = self._pid = None

    def fresh(self) -> None:
        """The next assignment goes to a process that has done nothing yet, with a memory layout of its own."""
        if self._pid is not None:
            self._stop()

    def another_worker(self) -> None:
        """The next assignment goes to another fork, which has done nothing yet; the memory layout may be the same."""
        if self._pid is None:
            return
        if self._child is None or self._pid == self._child.process.pid:
            self._stop()
            return
        end_group(self._pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self._pid, signal.SIGKILL)
        self._pid = None

    def survey(self, work: Survey) -> Surveyed:
        """The environment and the yardsticks. No contender is called, but a `--with` file is imported."""
        if self._judging is not None:
            self._judging.wait(self.limits.own_seconds)
        for _ in range(STARTS_AT_MOST):
            result = self._give(work)
            if isinstance(result, Surveyed):
                return result
        assert isinstance(result, Fault)
        raise OpbenchError(
            f"the measuring process {result.message}, {STARTS_AT_MOST} times, before anything was measured"
        )

    def measure(self, work: Measure) -> PanelMeasured | Fault:
        """The panel's records, or how the worker was lost."""
        began, before = time.monotonic(), self._heartbeat.last()
        if self._judging is not None:
            self._judging.begin(work)
            work = replace(work, judged_apart=True)
        result = self._give(work)
        assert isinstance(result, PanelMeasured | Fault)
        if isinstance(result, PanelMeasured):
            last = self._heartbeat.last()
            counted = last.number - (before.number if before.pid == last.pid else 0)
            why, whose = forged(work, result, counted, last, time.monotonic() - began), last.position
            if not why and self._judging is not None:
                whose = self._judging.unbacked(result.records)
                why = "" if whose is None else "the judge has not found it right"
                result = replace(result, records=self._judging.verdicts(result.records))
            if why:
                self._stop()
                return Fault(whose, "incorrect", f"sent a result that nobody can have measured: {why}")
        return result

    def first_call(self, case: Case) -> CalledFirst:
        """The first call of a case; the note says how the process was lost, where it was."""
        result = self._give(CallFirst(case))
        if isinstance(result, Fault):
            return CalledFirst(FirstCall(case.id, (), (), result.message), 0.0)
        assert isinstance(result, CalledFirst)
        return result

    def _give(self, work: Survey | Measure | CallFirst) -> Message | Fault:
        for _ in range(STARTS_AT_MOST):
            if self._child is None:
                self._child = self._start(self.memory_bytes)
            self._number += 1
            self._child.send(Assignment(self._number, work, self.extensions, self.threads))
            result = self._follow(self._child)
            if result is not None:
                return result
            errors, code = self._child.all_errors(), self._child.process.poll()
            self._stop()
        raise RuntimeError(f"the measuring process can't be started (exit code {code}):\n{errors}")

    def _follow(self, child: Child[Message]) -> Message | Fault | None:
        """The result of the assignment that was just given; None if the worker was lost before it began."""
        watch = WorkerWatch(child, self._heartbeat, self.limits)
        looked = time.monotonic()
        while True:
            found = child.poll(LOOK_SECONDS)
            now = time.monotonic()
            match found:
                case Death(kind="crash"):
                    if watch.pid is None:
                        return None
                    # The fork server is gone, and the worker with it; where it was the worker itself, this is its end.
                    was_worker = watch.pid == child.process.pid
                    self._stop()
                    return watch.fault(found if was_worker else crashed(-signal.SIGKILL, child.last_error()))
                case Death():
                    if watch.pid is None:
                        return None
                    watch.kill(found, now)
                case Began(number=self._number, pid=pid):
                    self._pid, self._answered = pid, None
                    watch.begin(pid, now)
                    child.forget_errors()
                case AskJudge(number=self._number) if watch.pid is not None and self._judging is not None:
                    asking = self._heartbeat.last()
                    child.send(self._judging.answer(found, asking.position, self.limits.own_seconds))
                    self._answered = asking.number
                    watch.silent.heard(time.monotonic())
                case Ended(pid=pid, code=code):
                    if pid == self._pid:
                        self._pid = None
                    if pid == watch.pid:
                        said = child.last_error()
                        unfit = code == STATE_LOST and said
                        if self._answered == self._heartbeat.last().number:
                            self._stop()  # perhaps nobody has read the answer, and the next worker would
                        return watch.fault(Death("crash", f"{said},") if unfit else crashed(code, said))
                case Surveyed() | PanelMeasured() | CalledFirst() if (
                    watch.pid is not None and found.number == self._number
                ):
                    return found
            if now - looked >= LOOK_SECONDS:
                looked = now
                if not watch.look(now):
                    return None
