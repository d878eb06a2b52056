"""The run's side of the worker: gives assignments, watches time and memory, and names who brought a worker down.

Time: the worker's board shows a beat before every step and every block of calls. A beat that stands still for longer
than the step is allowed is a hang, wherever it is: in Python, or in C code that holds the interpreter's lock and would
let no timer inside the process run.

Memory: the worker's resident set is looked at from here, ten times a second. RLIMIT_AS would be the kernel's own
limit, but it counts address space, of which torch, its thread stacks and CUDA reserve tens of gigabytes that they
never touch: a limit that lets them start limits nothing. A page must be touched to be resident, at a few gigabytes a
second at most, and the limit leaves a tenth of the free memory for what is touched between two looks. Should the
system run out all the same, the worker has offered itself to the kernel's out-of-memory killer (see worker.py).
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

from opbench.child import Child, end_group, ending
from opbench.documents import decode, encode
from opbench.engine.board import DEFINITION, IDLE, PREDICT, STEPS, Board, Reading
from opbench.engine.memory import free_bytes, resident_bytes
from opbench.engine.messages import (
    Assignment,
    Began,
    Broken,
    CalledFirst,
    CallFirst,
    Ended,
    Measure,
    Measured,
    Message,
    Refused,
    Survey,
    Surveyed,
)
from opbench.schema import Case, FirstCall, OpbenchError, Outcome

WORKER = "opbench.engine.worker"
LOOK_SECONDS = 0.1
KILL_SECONDS = 10.0
MEMORY_SHARE = 0.9
# A nursery that dies without having begun anything is started again this often.
STARTS_AT_MOST = 3


class Limits(msgspec.Struct, frozen=True):
    """How long and how large a worker may get.

    `step_seconds` is for one contender's step (build and first call with its compile time, one block of calls);
    `own_seconds` for what is opbench's own work (importing torch, the definition in float64). `memory_bytes` None:
    nine tenths of what is free when the run starts.
    """

    step_seconds: float = 300.0
    own_seconds: float = 1800.0
    memory_bytes: int | None = None


class Fault(NamedTuple):
    """How a worker was lost: on which contender (its position; None: on nobody's call), and what that is called.

    `foreign`: it was killed from outside, by SIGKILL that was not ours: perhaps by a system out of memory, perhaps
    by a person, so that one time proves nothing against the contender.
    """

    contender: int | None
    outcome: Outcome
    message: str
    foreign: bool = False


class Workplace:
    """One nursery and its worker, started when made: importing torch overlaps with whatever the caller does next."""

    def __init__(
        self,
        *,
        extensions: tuple[str, ...] = (),
        threads: int | None = None,
        limits: Limits | None = None,
        worker: str = WORKER,
        look: Callable[[int], int | None] | None = None,
    ) -> None:
        self.extensions, self.threads = extensions, threads
        self.limits = limits or Limits()
        self.memory_bytes = self.limits.memory_bytes or int(MEMORY_SHARE * free_bytes())
        self._worker = worker
        self._look = look or resident_bytes
        self._number = 0
        self._board = Board.make()
        self._pid: int | None = None  # the worker's, from its `Began` to its `Ended`
        self._child: Child | None = self._start()

    def __enter__(self) -> Workplace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._board.close()

    def _start(self) -> Child:
        fd = self._board.file_descriptor
        return Child(self._worker, [str(fd)], pass_fds=[fd])

    def _stop(self) -> None:
        if self._child is not None:
            reading = self._board.read()
            if reading.pid and self._pid == reading.pid:
                end_group(reading.pid)
            self._child.end()
        self._child = self._pid = None

    def fresh(self) -> None:
        """The next assignment goes to a process that has done nothing yet, with a memory layout of its own."""
        if self._pid is not None:
            self._stop()

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

    def measure(self, work: Measure) -> Measured | Fault:
        """The panel's records, or how the worker was lost."""
        result = self._give(work)
        assert isinstance(result, Measured | Fault)
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
                self._child = self._start()
            self._number += 1
            assignment = Assignment(self._number, work, self.extensions, self.threads)
            self._child.tell(encode(assignment))
            result = _Watching(self._child, self._board, self, self._number).follow()
            if result is not None:
                break
            errors, code = self._child.all_errors(), self._child.process.poll()
            self._stop()
        else:
            raise RuntimeError(f"the measuring process can't be started (exit code {code}):\n{errors}")
        if isinstance(result, Refused):
            raise OpbenchError(result.message)
        if isinstance(result, Broken):
            raise RuntimeError(f"the measuring process failed, not a contender:\n{result.traceback}")
        return result

    def looked(self, pid: int) -> int | None:
        """Resident bytes of the worker; None when it is gone."""
        return self._look(pid)


class _Watching:
    """One assignment, from giving it to its result."""

    def __init__(self, child: Child, board: Board, place: Workplace, number: int) -> None:
        self.child, self.board, self.place, self.number = child, board, place, number
        self.pid: int | None = None
        self.reading = Reading(None, IDLE, 0, 0)
        self.since = time.monotonic()
        self.killed: tuple[Outcome, str] | None = None
        self.looked_at = self.since

    def follow(self) -> Message | Fault | None:
        """The result; None if the process was lost before it began."""
        while True:
            try:
                line = self.child.line(LOOK_SECONDS)
            except TimeoutError:
                line = b""
            if line is None:
                return self._closed()
            result = self._take(line)
            if result is not None:
                return result
            now = time.monotonic()
            if now - self.looked_at >= LOOK_SECONDS:
                self.looked_at = now
                if self._watch(now):
                    return None

    def _take(self, line: bytes) -> Message | Fault | None:
        if not line.strip():
            return None
        try:
            message: Message = decode(line, Message)  # type: ignore[arg-type]
        except msgspec.DecodeError:
            return None  # cut off in the middle by the death that the next line tells of
        match message:
            case Began(number=self.number, pid=pid):
                self.pid = self.place._pid = pid
                self.since = time.monotonic()
                self.child.errors.clear()
            case Ended(pid=pid, code=code):
                if pid == self.place._pid:
                    self.place._pid = None
                if pid == self.pid:
                    return self._fault(code)
            case Surveyed() | Measured() | CalledFirst() | Refused() | Broken() if self.pid is not None:
                return message
        return None

    def _watch(self, now: float) -> bool:
        """Looks at time and memory; True to give up on a nursery that doesn't begin."""
        if self.pid is None:
            return now - self.since > self.place.limits.own_seconds
        reading = self.board.read()
        if reading.pid == self.pid and reading != self.reading:
            self.reading, self.since = reading, now
        limits, silent = self.place.limits, now - self.since
        if self.killed is not None:
            if silent > KILL_SECONDS:
                self.child.end()  # the nursery doesn't answer either
            return False
        own = self.reading.contender is None or self.reading.step in (DEFINITION, PREDICT)
        limit = limits.own_seconds if own else limits.step_seconds
        resident = self.place.looked(self.pid) or 0
        if resident > self.place.memory_bytes:
            allowed = self.place.memory_bytes
            self._kill("out-of-memory", f"killed at {_gib(resident)} GiB, where {_gib(allowed)} GiB are allowed,")
        elif silent > limit:
            self._kill("timed-out", f"killed after {limit:g} s without a sign of life")
        return False

    def _kill(self, outcome: Outcome, message: str) -> None:
        assert self.pid is not None
        self.killed, self.since = (outcome, message), time.monotonic()
        end_group(self.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)

    def _closed(self) -> Fault | None:
        """The nursery is gone, and with it the worker; where it was the worker itself, this is the worker's end."""
        code = self.child.code()
        itself = self.pid == self.child.process.pid
        if self.pid is None:
            return None
        self.place._stop()
        return self._fault(-signal.SIGKILL if code is None or not itself else code)

    def _fault(self, code: int) -> Fault:
        reading = self.board.read()
        if reading.pid != self.pid:  # it died before its first step
            reading = Reading(None, IDLE, 0, 0)
        outcome, message = self.killed or ("crashed", ending(code, self.child.last_error()))
        foreign = self.killed is None and code == -signal.SIGKILL
        return Fault(reading.contender, outcome, f"{message} {STEPS[reading.step]}", foreign)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f}"
