"""The machine's memory, what of it is free, and what a process holds: by psutil, or on Linux without it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import ModuleType

from opbench.process.descendants import descendants

_GROUP = Path("/sys/fs/cgroup")


def _psutil() -> ModuleType | None:
    try:
        import psutil
    except ImportError:
        return None
    return psutil  # type: ignore[no-any-return]


def total_bytes() -> int:
    """The machine's memory."""
    psutil = _psutil()
    return int(psutil.virtual_memory().total) if psutil else _meminfo("MemTotal")


def free_bytes() -> int:
    """Memory that can be had: the machine's, or what a container leaves of it."""
    psutil = _psutil()
    free = int(psutil.virtual_memory().available) if psutil else _meminfo("MemAvailable")
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        limit = int((_GROUP / "memory.max").read_text(encoding="ascii"))
        free = min(free, limit - int((_GROUP / "memory.current").read_text(encoding="ascii")))
    return free


def resident_bytes(pid: int) -> int | None:
    """Resident bytes of a process and of all that it has started; None when it is gone.

    Of a descendant its share alone: a fork holds the same pages as its parent.
    """
    own = _resident_bytes(pid)
    return None if own is None else own + sum(map(_proportional_bytes, descendants(pid)))


def _proportional_bytes(pid: int) -> int:
    """Resident bytes, each page divided by the number of processes that hold it; 0 when the process is gone."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) << 10
    return 0


def _resident_bytes(pid: int) -> int | None:
    psutil = _psutil()
    if psutil is not None:
        try:
            return int(psutil.Process(pid).memory_info().rss)
        except psutil.Error:
            return None
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _meminfo(name: str) -> int:
    """A line of /proc/meminfo, which is in KiB. Raises OSError where there is no such file, or no such line."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise OSError(f"/proc/meminfo has no line {name}")
