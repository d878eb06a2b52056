"""The parent's side: a process that may hang, crash, or flood memory or output at the cost of itself alone.

    with Child(["-m", "opbench.study.worker"], answers=Trained) as child:
        child.send(job)
        answer = child.receive(seconds=600)    # a Trained, or a Death that says how the process was lost

The memory limit is on what is resident, looked at from here ten times a second. RLIMIT_AS would be the kernel's own
limit, but it counts address space, of which torch, its thread stacks and CUDA reserve tens of gigabytes that they
never touch: a limit that lets them start limits nothing. A page must be touched to be resident, at a few gigabytes a
second at most, and the limit leaves a tenth of the free memory for what is touched between two looks. Should the
system run out all the same, the child has offered itself to the kernel's out-of-memory killer (`channel`).
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, TypeVar

import msgspec

import opbench
from opbench.documents import decode, encode
from opbench.process.channel import ChildBroken, ChildRefused
from opbench.process.death import Death, crashed, end_group, flooded, hung, too_large
from opbench.process.descendants import end_with_mark, marked, new_mark
from opbench.process.memory import free_bytes, resident_bytes
from opbench.process.patience import Limit
from opbench.schema import OpbenchError

M = TypeVar("M")

LOOK_SECONDS = 0.1
MEMORY_SHARE = 0.9
# No message comes near this; see `Child.poll`.
OUTPUT_BYTES = 128 << 20
# Lines that are read ahead of who takes them. Beyond it the pipe fills and the child waits.
LINES_AHEAD = 64
# What a child says on standard error is kept to its end: it may print megabytes.
KEPT_ERRORS = 40
LONGEST_ERROR = 1 << 12
LONGEST_MESSAGE = 200
# A child that has ended has said all that it will; its pipe stays open while something that it left behind holds it.
LAST_WORDS_SECONDS = 1.0


class Child(Generic[M]):
    """A process of Python, the messages it is sent and those it answers; threads read, so that waiting has a limit.

    `arguments` are the interpreter's. `answers` is the type of the messages: tagged structs, a union as a rule.
    `memory_bytes` None: nine tenths of what is free now. `own_group` False keeps it in this process's group, for a
    child of a child: whoever ends that group ends both. `broken` begins the error for a fault of opbench itself.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        answers: Any,
        *,
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        own_group: bool = True,
        memory_bytes: int | None = None,
        output_bytes: int | None = None,
        look: Callable[[int], int | None] = resident_bytes,
        broken: str = "a child process failed",
    ) -> None:
        self.memory_bytes = memory_bytes or int(MEMORY_SHARE * free_bytes())
        self._answers = answers | ChildRefused | ChildBroken
        self._output_bytes, self._look, self._broken = output_bytes or OUTPUT_BYTES, look, broken
        self._own_group = own_group
        self._unread = 0  # bytes since the last message
        self._looked = 0.0  # when at its memory
        self._gone: float | None = None  # since when it is known to have ended
        self._mark = new_mark()
        self._stopped = False
        self._lines: queue.Queue[bytes | None] = queue.Queue(LINES_AHEAD)
        self._errors: deque[bytes] = deque(maxlen=KEPT_ERRORS)
        self.process = subprocess.Popen(
            # -P: the folder that a user happens to be in is no place to import from; it may hold a random.py.
            [sys.executable, "-P", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=marked(_environment(environment), self._mark),
            pass_fds=pass_fds,
            start_new_session=own_group,  # it and what it starts are ended as one, and don't hear Ctrl-C
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._stdin = self.process.stdin
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self.process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Child[M]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read(self, out: IO[bytes]) -> None:
        while line := out.readline(self._output_bytes + 1):
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self, errors: IO[bytes]) -> None:
        while chunk := errors.readline(LONGEST_ERROR):
            self._errors.append(chunk)

    def send(self, message: object) -> None:
        """Writes one line to its standard input; a process that is gone reads nothing, and `receive` says so."""
        if self._stopped:
            return
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(encode(message) + b"\n")
            self._stdin.flush()

    def receive(self, seconds: float) -> M | Death:
        """The next message, or how the child was lost: then it has been ended.

        Raises OpbenchError for what a user can mend, RuntimeError for a fault of opbench itself, as the child says.
        """
        limit = Limit(time.monotonic())
        while not limit.reached(seconds, now := time.monotonic()):
            found = self.poll(min(LOOK_SECONDS, seconds))
            if now - self._looked >= LOOK_SECONDS:
                self._looked = now
                found = self.excess(self.process.pid) or found
            if isinstance(found, Death):
                self.stop()
            if found is not None:
                return found
        self.stop()
        return hung(seconds, limit.why)

    def poll(self, seconds: float) -> M | Death | None:
        """The next message, its end, or a flood; None if nothing came for so long. Kills nothing.

        A line that is no message is passed over: the child's death cut it off, or somebody else wrote it. More
        of it than `output_bytes` is a flood.
        """
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return self._ended() if self._has_been_gone() else None
        if line is None:
            return self._ended()
        self._unread += len(line)
        if self._unread > self._output_bytes:
            self._unread = 0
            return flooded(self._output_bytes)
        try:
            message: M | ChildRefused | ChildBroken = decode(line, self._answers)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        self._unread = 0
        if isinstance(message, ChildRefused):
            raise OpbenchError(message.message)
        if isinstance(message, ChildBroken):
            raise RuntimeError(f"{self._broken}:\n{message.traceback}")
        return message

    def excess(self, pid: int) -> Death | None:
        """The death that `pid`, this process or one that it started, has earned by its memory."""
        resident = self._look(pid) or 0
        return too_large(resident, self.memory_bytes) if resident > self.memory_bytes else None

    def _has_been_gone(self) -> bool:
        """Whether it ended a while ago, and nobody has closed its pipe."""
        if self.process.poll() is None:
            return False
        now = time.monotonic()
        self._gone = now if self._gone is None else self._gone
        return now - self._gone > LAST_WORDS_SECONDS

    def _ended(self) -> Death:
        self._lines.put(None)  # for whoever asks again
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return Death("crash", "closed its standard output")
        self._readers[1].join(timeout=1)
        return crashed(code, self.last_error())

    def last_error(self) -> str:
        """The last line on its standard error that is not empty.

        What a child wrote before it died may still be on its way to the thread that reads it: on a busy machine for
        some tenths of a second.
        """
        until = time.monotonic() + 0.5
        while not self._errors and time.monotonic() < until:
            time.sleep(0.02)
        texts = (line.decode(errors="replace").strip() for line in reversed(tuple(self._errors)))
        return next((text[:LONGEST_MESSAGE] for text in texts if text), "")

    def forget_errors(self) -> None:
        """What it has said on standard error so far belongs to work that is over."""
        self._errors.clear()

    def all_errors(self) -> str:
        """What is kept of its standard error."""
        return b"".join(tuple(self._errors)).decode(errors="replace")

    def stop(self) -> None:
        """Ends it and what it started, if they still run. Whoever waits for an answer in another thread gets none."""
        if self._stopped:
            return
        self._stopped = True
        if self._own_group:
            end_group(self.process.pid)
        self.process.kill()
        self.process.wait()
        end_with_mark(self._mark)
        until = time.monotonic() + 1
        while self._readers[0].is_alive() and time.monotonic() < until:
            with contextlib.suppress(queue.Empty):  # makes room for what the thread still holds
                self._lines.get(timeout=0.02)
        self._readers[1].join(timeout=1)
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        for reader, stream in zip(self._readers, (self.process.stdout, self.process.stderr), strict=True):
            # A thread that still reads holds the stream: closing it would wait for whoever has the pipe's other end.
            if stream is not None and not reader.is_alive():
                stream.close()


def _environment(given: Mapping[str, str] | None) -> Mapping[str, str]:
    """The child's environment; it finds this opbench, too, where that is only in the current folder (a checkout)."""
    environment = os.environ if given is None else given
    root = str(Path(opbench.__file__).resolve().parents[1])
    if root != os.path.realpath(os.getcwd()) or not {"", os.getcwd()} & set(sys.path):
        return environment
    known = filter(None, [environment.get("PYTHONPATH")])
    return {**environment, "PYTHONPATH": os.pathsep.join([*known, root])}
