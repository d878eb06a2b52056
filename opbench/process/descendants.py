"""The processes that a child has started: those that the kernel still knows as such, and those that left their family.

A process that made a session of its own, and whose parent has ended, belongs to nobody. It still has the environment
that it was started with: every child of opbench gets a mark there, which all that descends from it inherit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

# The variable that holds the marks, those of a child's own parents before its own.
MARK = "OPBENCH_CHILD"
_PROC = Path("/proc")
ENDING_SECONDS = 2.0


def new_mark() -> str:
    """A mark that no other child has."""
    return uuid.uuid4().hex


def marked(environment: Mapping[str, str], mark: str) -> dict[str, str]:
    """The environment of a child with this mark beside those that it holds already."""
    return {**environment, MARK: ":".join(filter(None, (environment.get(MARK), mark)))}


def with_mark(mark: str) -> list[int]:
    """The processes that have the mark, this one aside; none where there is no /proc."""
    own, wanted, found = os.getpid(), mark.encode(), []
    for pid in (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()) if _PROC.is_dir() else ():
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if pid != own and wanted in (_PROC / str(pid) / "environ").read_bytes():
                found.append(pid)
    return found


def end_with_mark(mark: str) -> None:
    """Kills every process that has the mark, until there are none: one that forks meanwhile leaves another."""
    until = time.monotonic() + ENDING_SECONDS
    while (pids := with_mark(mark)) and time.monotonic() < until:
        end(pids)
        time.sleep(0.01)


def end(pids: list[int]) -> None:
    """Kills processes."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def children(pid: int | str = "self") -> list[int]:
    """The processes whose parent is this one; none where the kernel doesn't say."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text(encoding="ascii").split())
    return found


def descendants(pid: int) -> list[int]:
    """Its children, and theirs."""
    found, left = [], children(pid)
    while left:
        child = left.pop()
        if child not in found:
            found.append(child)
            left += children(child)
    return found
