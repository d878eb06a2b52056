"""The run's side of the worker: gives assignments, watches time and memory, and names who brought a worker down.

Time: the worker's heartbeat counts before every step and every block of calls. A count that stands still for longer
than the step is allowed is a hang. Memory: the worker's resident set is looked at ten times a second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

import msgspec

from opbench.engine.forgery import forged
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
from opbench.engine.steps import STATE_LOST, CaseStep
from opbench.measure.cores import CoreCount
from opbench.process.child import LOOK_SECONDS, Child
from opbench.process.death import Death, crashed, end_group, hung
from opbench.process.heartbeat import Beat, Heartbeat
from opbench.process.memory import resident_bytes
from opbench.process.patience import Limit
from opbench.schema import Case, FirstCall, OpbenchError, Outcome

FORK_SERVER = "opbench.engine.fork_server"
KILL_SECONDS = 10.0
# A fork server that dies before a worker has begun is started again this often.
STARTS_AT_MOST = 3
_NOTHING = Beat(None, CaseStep.IDLE, 0, 0)


# Of one step of a contender's, and of opbench's own work, unless something else is asked for.
STEP_SECONDS, OWN_SECONDS = 300.0, 1800.0


class WorkerLimits(msgspec.Struct, frozen=True):
    """How long and how large a worker may get.

    `step_seconds` is for one contender's step (build and first call with its compile time, one block of calls);
    `own_seconds` for what is opbench's own work (importing torch, the definition in float64). `memory_bytes` None:
    nine tenths of what is free when the run starts. `output_bytes`: what it may write that is no message; None leaves
    that to `Child`.
    """

    step_seconds: float = STEP_SECONDS
    own_seconds: float = OWN_SECONDS
    memory_bytes: int | None = None
    output_bytes: int | None = None


class Fault(NamedTuple):
    """How a worker was lost: on which contender (its position; None: on nobody's call), and what that is called.

    `foreign`: it was killed from outside (see `Death`), so that one time is no evidence against the contender.
    """

    contender: int | None
    outcome: Outcome
    message: str
    foreign: bool = False


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
        self._heartbeat.close()

    def _start(self, memory_bytes: int | None) -> Child[Message]:
        fd = self._heartbeat.file_descriptor
        return Child(
            ["-m", self._worker, str(fd)],
            Message,
            pass_fds=[fd],
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
        result = self._give(work)
        assert isinstance(result, PanelMeasured | Fault)
        if isinstance(result, PanelMeasured):
            last = self._heartbeat.last()
            counted = last.number - (before.number if before.pid == last.pid else 0)
            if why := forged(work, result, counted, last, time.monotonic() - began):
                self._stop()
                return Fault(last.position, "incorrect", f"sent a result that nobody can have measured: {why}")
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
        watch = _Watch(child, self._heartbeat, self.limits)
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
                    self._pid = pid
                    watch.begin(pid, now)
                    child.forget_errors()
                case Ended(pid=pid, code=code):
                    if pid == self._pid:
                        self._pid = None
                    if pid == watch.pid:
                        said = child.last_error()
                        unfit = code == STATE_LOST and said
                        return watch.fault(Death("crash", f"{said},") if unfit else crashed(code, said))
                case Surveyed() | PanelMeasured() | CalledFirst() if (
                    watch.pid is not None and found.number == self._number
                ):
                    return found
            if now - looked >= LOOK_SECONDS:
                looked = now
                if not watch.look(now):
                    return None


class _Watch:
    """One assignment: the worker that has it, its time and its memory."""

    def __init__(self, child: Child[Message], heartbeat: Heartbeat, limits: WorkerLimits) -> None:
        self.child, self.heartbeat, self.limits = child, heartbeat, limits
        self.pid: int | None = None
        self.silent = Limit(time.monotonic())
        self.last = _NOTHING
        self.killed: Death | None = None

    def begin(self, pid: int, now: float) -> None:
        """The worker has taken the assignment."""
        self.pid = pid
        self.silent.heard(now)

    def look(self, now: float) -> bool:
        """Looks at time and memory; False to give up on a fork server that begins nothing."""
        if self.pid is None:
            return not self.silent.reached(self.limits.own_seconds, now)
        last = self.heartbeat.last()
        if last.pid == self.pid and last != self.last:
            self.last = last
            self.silent.heard(now)
        if self.killed is not None:
            if self.silent.reached(KILL_SECONDS, now):
                self.child.stop()  # the fork server doesn't answer either
            return True
        nobody = self.last.position is None and self.last.step != CaseStep.IMPORT
        own = nobody or self.last.step in (CaseStep.DEFINITION, CaseStep.PREDICT)
        limit = self.limits.own_seconds if own else self.limits.step_seconds
        silent = self.silent.reached(limit, now)
        death = self.child.excess(self.pid) or (hung(limit, self.silent.why) if silent else None)
        if death is not None:
            self.kill(death, now)
        return True

    def kill(self, death: Death, now: float) -> None:
        """Ends the worker; the fork server then says that it has ended."""
        assert self.pid is not None
        self.killed = self.killed or death
        self.silent.heard(now)
        end_group(self.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)

    def fault(self, death: Death) -> Fault:
        """The worker's end, by what it was doing and by who ended it."""
        last = self.heartbeat.last()
        if last.pid != self.pid:  # it died before its first step
            last = _NOTHING
        step = CaseStep(last.step) if last.step in list(CaseStep) else CaseStep.IDLE
        death = self.killed or death
        return Fault(last.position, death.outcome, f"{death.message} {step.during}", death.foreign)
