"""A process that may hang, crash or flood memory at the cost of itself alone, and the one that watches it.

Two commands need it: `opbench check` runs a person's code in one, `opbench run` every panel. The watched side speaks
in lines on what was its standard output (`apart`); this side reads them with a limit (`Child.line`), says how the
process ended (`Child.ending`) and leaves nothing of it behind (`Child.end`).
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import IO, BinaryIO

# What a watched process says on standard error is kept to its end: a contender may print megabytes.
KEPT_ERRORS = 40
LONGEST_ERROR = 1 << 12
LONGEST_MESSAGE = 200


class Child:
    """A process and what it says; threads read, so that waiting can have a limit."""

    def __init__(self, module: str, arguments: Sequence[str] = (), *, pass_fds: Sequence[int] = ()) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            start_new_session=True,  # it and what it starts are one group: ended as one, and deaf to Ctrl-C here
        )
        self.lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.errors: deque[bytes] = deque(maxlen=KEPT_ERRORS)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._stdin = self.process.stdin
        self.readers = [
            threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self.process.stderr,), daemon=True),
        ]
        for reader in self.readers:
            reader.start()

    def _read(self, out: IO[bytes]) -> None:
        for line in out:
            self.lines.put(line)
        self.lines.put(None)

    def _read_errors(self, errors: IO[bytes]) -> None:
        while chunk := errors.readline(LONGEST_ERROR):
            self.errors.append(chunk)

    def tell(self, line: bytes) -> None:
        """Writes one line to its standard input; a process that is gone hears nothing, and `line` will say so."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(line + b"\n")
            self._stdin.flush()

    def line(self, limit: float) -> bytes | None:
        """The next line; None when there are no more. TimeoutError after `limit` seconds of silence."""
        try:
            return self.lines.get(timeout=limit)
        except queue.Empty:
            raise TimeoutError from None

    def code(self) -> int | None:
        """The exit code of a process that has closed its output; None if it lives on all the same."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return None
        self.readers[1].join(timeout=1)
        return code

    def last_error(self) -> str:
        """The last line on its standard error that is not empty.

        What a worker wrote before it died may still be on its way to the thread that reads it: on a busy machine for
        some tenths of a second.
        """
        until = time.monotonic() + 0.5
        while not self.errors and time.monotonic() < until:
            time.sleep(0.02)
        texts = (line.decode(errors="replace").strip() for line in reversed(tuple(self.errors)))
        return next((text[:LONGEST_MESSAGE] for text in texts if text), "")

    def all_errors(self) -> str:
        """What is kept of its standard error."""
        return b"".join(tuple(self.errors)).decode(errors="replace")

    def end(self) -> None:
        """Ends it and what it started, if they still run."""
        end_group(self.process.pid)
        self.process.kill()
        self.process.wait()
        for reader in self.readers:
            reader.join(timeout=1)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def end_group(pid: int) -> None:
    """Kills the process group that `pid` leads, if there is one."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def ending(code: int, last_error: str = "") -> str:
    """How a process came to its end, in words; a signal is named."""
    after = f" ({last_error})" if last_error else ""
    if code >= 0:
        return f"ended the process, exit code {code}{after}"
    name = signal.Signals(-code).name
    flood = ", as a system does that is out of memory" if name == "SIGKILL" else ""
    return f"died with {name}{flood}{after}"


@contextlib.contextmanager
def apart() -> Iterator[BinaryIO]:
    """The process's standard output, which from here on only the holder of the yielded file can write to.

    Whatever runs inside finds its standard input empty and its standard output leading nowhere: nothing that it
    prints can pass for a message.
    """
    with os.fdopen(os.dup(1), "wb") as out, open(os.devnull, "r+b") as nowhere:
        os.dup2(nowhere.fileno(), 0)
        os.dup2(nowhere.fileno(), 1)
        yield out
