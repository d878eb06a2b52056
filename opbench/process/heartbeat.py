"""The heartbeat: on which piece of work a child is, and in which step, in memory that its parent reads without asking.

A message for every sample would wake the parent a hundred times a second beside the very code that is timed. Four
integers in a shared page cost the child less than a microsecond, outside the timed span, and say all that is needed
to name the guilty one after a crash and to tell a hang (the count stands still) from slow work. This holds for a hang
in Python and for one in C code that keeps the interpreter's lock and would let no timer inside the process run.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple

from opbench.process.memory_file import memory_file

_LAYOUT = struct.Struct("qqqq")


class Beat(NamedTuple):
    """`position`: of the piece of work, or None between pieces; `step`: a number that the two sides agree on.

    `number` counts the beats.
    """

    position: int | None
    step: int
    number: int
    pid: int


class Heartbeat:
    """One shared page. The parent makes it (`Heartbeat.make`), hands its file descriptor on, and the child opens it."""

    def __init__(self, file_descriptor: int) -> None:
        self.file_descriptor = file_descriptor
        self._memory = mmap.mmap(file_descriptor, _LAYOUT.size)
        self._number = 0

    @classmethod
    def make(cls) -> Heartbeat:
        """A new page, all zero: nobody has written to it. Raises OpbenchError on a system that can't hand it on."""
        file_descriptor = memory_file("opbench-heartbeat")
        os.ftruncate(file_descriptor, _LAYOUT.size)
        return cls(file_descriptor)

    def beat(self, position: int | None, step: int) -> None:
        """The child is about to do `step` of the piece of work."""
        self._number += 1
        _LAYOUT.pack_into(self._memory, 0, 0 if position is None else position + 1, step, self._number, os.getpid())

    def last(self) -> Beat:
        """What was written last."""
        position, step, number, pid = _LAYOUT.unpack_from(self._memory, 0)
        return Beat(position - 1 if position else None, step, number, pid)

    def close(self) -> None:
        """Closes the page."""
        self._memory.close()
        os.close(self.file_descriptor)
