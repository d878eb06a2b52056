"""The child's side: requests come on what was its standard input, answers go to what was its standard output.

Neither is left to the code that the child runs: nothing that it prints can pass for a message. A child ends with its
parent, whatever becomes of it: the kernel sees to that on Linux, elsewhere its next read does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeVar

import msgspec

from opbench.documents import decode, encode
from opbench.schema import OpbenchError

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1


class ChildRefused(msgspec.Struct, frozen=True, tag=True):
    """An `OpbenchError` in the child: what a user can mend. The parent raises it anew."""

    message: str


class ChildBroken(msgspec.Struct, frozen=True, tag=True):
    """A fault of opbench itself in the child. Said in a message, because an exit status may be anybody's."""

    traceback: str


class Channel:
    """Messages, one JSON line each."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests, self._answers = requests, answers

    def receive(self, kind: type[T]) -> T | None:
        """The next request; None when there are no more.

        Read byte by byte from an unbuffered file: a fork of this process goes on where this one stopped.
        """
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = self._requests.read(1)
            if not byte:
                return None
            line += byte
        return decode(bytes(line), kind)

    def send(self, message: object) -> None:
        """Writes one line, at once."""
        self._answers.write(encode(message) + b"\n")
        self._answers.flush()

    def end_line(self) -> None:
        """After the death of a fork that may have been in the middle of a line."""
        self._answers.write(b"\n")
        self._answers.flush()


@contextlib.contextmanager
def channel() -> Iterator[Channel]:
    """The channel of this process to its parent, with whom it dies."""
    die_with_parent(os.getppid())
    with os.fdopen(os.dup(0), "rb", buffering=0) as requests, _apart() as answers:
        yield Channel(requests, answers)


def serve(kind: type[T], answer: Callable[[T], Iterable[object]]) -> None:
    """Answers every request of this kind until there are no more; an error is an answer, too."""
    with channel() as wire:
        while (request := wire.receive(kind)) is not None:
            try:
                for message in answer(request):
                    wire.send(message)
            except OpbenchError as error:
                wire.send(ChildRefused(str(error)))
            except Exception:
                wire.send(ChildBroken(traceback.format_exc()))


def take_one(kind: type[T], carry_out: Callable[[T, Channel], None]) -> NoReturn:
    """Takes one job in which a person's own code runs: whatever comes of it is a message, and then the process ends.

    That code may raise anything (SystemExit too). What it registered to run at exit, and threads that it left, have no
    say in how this ends.
    """
    with channel() as wire:
        job = wire.receive(kind)
        assert job is not None
        try:
            carry_out(job, wire)
        except OpbenchError as error:
            wire.send(ChildRefused(str(error)))
        except BaseException:
            wire.send(ChildBroken(traceback.format_exc()))
    os._exit(0)


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when its parent dies (more precisely, the thread that started it), where it
    can (Linux), and be its first choice when memory runs out; elsewhere the process ends at its next read.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # Windows has no library of that name, None
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if os.getppid() != parent:  # it died before the kernel was told
        os._exit(0)


@contextlib.contextmanager
def _apart() -> Iterator[BinaryIO]:
    """The process's standard output, which from here on only the holder of the yielded file can write to.

    Whatever runs inside finds its standard input empty and its standard output leading nowhere.
    """
    with os.fdopen(os.dup(1), "wb") as out, open(os.devnull, "r+b") as nowhere:
        os.dup2(nowhere.fileno(), 0)
        os.dup2(nowhere.fileno(), 1)
        yield out
