"""The board: on which contender a worker is, and in which step, in memory that the run reads without asking.

A message for every sample would wake the run a hundred times a second beside the very code that is timed. Four
integers in a shared page cost the worker less than a microsecond, outside the timed span, and say all that is needed
to name the guilty one after a crash and to tell a hang (the beat stands still) from slow work.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from typing import NamedTuple

STEPS = (
    "between its calls",
    "while the definition was evaluated for it",
    "while it was built and called for the first time",
    "while it was counted and its memory tracked",
    "while it was timed",
    "while its last timed output was judged",
    "while its memory was predicted",
)
IDLE, DEFINITION, FIRST_CALL, COUNT, TIME, JUDGE, PREDICT = range(len(STEPS))

_LAYOUT = struct.Struct("qqqq")


class Reading(NamedTuple):
    """`contender`: its position in the panel that the worker was given, or None outside any contender."""

    contender: int | None
    step: int
    beat: int
    pid: int


class Board:
    """One shared page. The run makes it (`Board.make`) and hands its file descriptor on; the worker opens that."""

    def __init__(self, file_descriptor: int) -> None:
        self.file_descriptor = file_descriptor
        self._memory = mmap.mmap(file_descriptor, _LAYOUT.size)
        self._beat = 0

    @classmethod
    def make(cls) -> Board:
        """A new board, all zero: nobody is on it."""
        if hasattr(os, "memfd_create"):  # in memory alone: no file system can make a write to it wait
            file_descriptor = os.memfd_create("opbench-board")
        else:
            with tempfile.TemporaryFile() as file:
                file_descriptor = os.dup(file.fileno())
        os.ftruncate(file_descriptor, _LAYOUT.size)
        return cls(file_descriptor)

    def write(self, contender: int | None, step: int) -> None:
        """The worker is about to do `step` for the contender."""
        self._beat += 1
        _LAYOUT.pack_into(self._memory, 0, 0 if contender is None else contender + 1, step, self._beat, os.getpid())

    def read(self) -> Reading:
        """What stands on it."""
        contender, step, beat, pid = _LAYOUT.unpack_from(self._memory, 0)
        return Reading(contender - 1 if contender else None, step if step in range(len(STEPS)) else IDLE, beat, pid)

    def close(self) -> None:
        """Lets go of the page."""
        self._memory.close()
        os.close(self.file_descriptor)
