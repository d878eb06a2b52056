"""Disturbance: how long a block's threads were ready to run and had no core, and which blocks that has spoilt.

A parallel region waits at its barrier for the one thread whose core somebody else has, so a busy core slows a
contender of many small regions tenfold and its one-region baseline hardly at all: a bias that pairs don't cancel and
no interval shows. The kernel knows it without being asked how long the block took. Of what it tells, the best that
the machine gives is used, and the environment says which:

    schedstat   /proc/self/task/*/schedstat, second field: nanoseconds that a thread was runnable and not running
    switches    involuntary context switches of this process (getrusage), each counted as a time slice

and beside either, the cgroup's throttled time (`cpu.stat`) and the time that a hypervisor took (`/proc/stat`, steal).
A block whose threads waited for more than `WAITED_SHARE_AT_MOST` of its time is disturbed. The threads' waits are
added up: the block was delayed by no more than that.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from opbench.measure.interruptions import interruptions
from opbench.measure.system_files import text

# Of a block's wall time. A figure whose every block waited for this long is at most so much too high.
WAITED_SHARE_AT_MOST = 0.02
# What a thread that is switched out loses at least, on kernels that don't say: the smallest time slice of Linux.
SLICE_SECONDS = 7e-4
STEAL_TICK_SECONDS = 0.01
PAUSE_SECONDS = 0.005


class Counters(NamedTuple):
    """Seconds so far; None where this machine doesn't say."""

    waiting: float | None
    throttled: float | None
    stolen: float | None


_UNREAD = Counters(None, None, None)


class Waited(NamedTuple):
    """What of a block's wall time was lost, as shares of it."""

    waiting: float
    throttled: float
    stolen: float

    @property
    def share(self) -> float:
        """The largest of them: one wait may be counted by several."""
        return max(self)

    @property
    def why(self) -> str:
        """The largest in words."""
        words = {
            "waiting": "its threads were ready to run and had no core",
            "throttled": "its cgroup's CPU quota was used up",
            "stolen": "the hypervisor gave the core to somebody else",
        }
        name = max(self._fields, key=lambda one: float(getattr(self, one)))
        return f"for {getattr(self, name):.0%} of a block's time {words[name]}"


class KernelCounters:
    """The waits of this process as the kernel counts them. `proc` and `cgroup`: where to look, for tests.

    The files stay open: opening them would cost more than reading.
    """

    def __init__(self, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> None:
        self._tasks = proc / "self" / "task"
        self._threads: dict[str, int] = {}
        self._ended = 0  # nanoseconds that threads which have ended had waited
        self._last: dict[str, int] = {}
        quota = cgroup_file(proc, cgroup, "cpu.stat")
        self._quota = _opened(quota) if quota else None
        self._stat = _opened(proc / "stat")
        self._ticks = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
        self.source = "switches" if self._schedstat() is None else "schedstat"

    def read(self) -> Counters:
        """The counters now, in some microseconds a thread."""
        waiting = self._schedstat() if self.source == "schedstat" else None
        return Counters(
            interruptions() * SLICE_SECONDS if waiting is None else waiting / 1e9, self._throttled(), self._stolen()
        )

    def close(self) -> None:
        """Closes the files."""
        for descriptor in (*self._threads.values(), self._quota, self._stat):
            if descriptor is not None:
                os.close(descriptor)
        self._threads.clear()
        self._quota = self._stat = None

    def _schedstat(self) -> int | None:
        """Nanoseconds that all threads of this process have waited so far, ended ones included as last seen."""
        try:
            now = set(os.listdir(self._tasks))
        except OSError:
            return None
        for thread in self._threads.keys() - now:
            os.close(self._threads.pop(thread))
            self._ended += self._last.pop(thread, 0)
        for thread in now - self._threads.keys():
            descriptor = _opened(self._tasks / thread / "schedstat")
            if descriptor is not None:  # it may have ended since
                self._threads[thread] = descriptor
        if not self._threads:
            return None
        for thread, descriptor in self._threads.items():
            with contextlib.suppress(IndexError, ValueError):
                self._last[thread] = int(_pread(descriptor).split()[1])
        return self._ended + sum(self._last.values())

    def _throttled(self) -> float | None:
        for line in _pread(self._quota).splitlines():
            key, _, value = line.partition(b" ")
            if key in _THROTTLED:
                return int(value) * _THROTTLED[key]
        return None

    def _stolen(self) -> float | None:
        fields = _pread(self._stat).split(maxsplit=9)
        return int(fields[8]) / self._ticks if len(fields) > 8 and fields[0] == b"cpu" else None


# Seconds per unit: cgroup v2's microseconds, v1's nanoseconds.
_THROTTLED: Mapping[bytes, float] = {b"throttled_usec": 1e-6, b"throttled_time": 1e-9}


def _opened(file: Path) -> int | None:
    try:
        return os.open(file, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None


def _pread(descriptor: int | None) -> bytes:
    """The beginning of an open file; nothing where it can't be read (its thread has ended)."""
    if descriptor is None:
        return b""
    try:
        return os.pread(descriptor, 1024, 0)
    except OSError:
        return b""


def cgroup_file(proc: Path, cgroup: Path, name: str) -> Path | None:
    """The file of this process's own CPU group, cgroup v2 or v1; None where there is none to read."""
    for line in text(proc / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in ("", "cpu", "cpu,cpuacct", "unified"):
            # In a container the group's own path is that of the host, and its files stand at the mount itself.
            for inside in (place.lstrip("/"), ""):
                file = cgroup / mount / inside / name
                if file.is_file():
                    return file
    return None


def waited(before: Counters, after: Counters, seconds: float) -> Waited:
    """What was lost between two readings around a block that took `seconds`.

    A clock that stands still or runs backwards gives no share of anything: such a block is lost whole.
    """
    if not seconds > 0:
        return Waited(1.0, 0.0, 0.0)
    pairs = zip(before, after, strict=True)
    return Waited(*(max(0.0, b - a) / seconds if a is not None and b is not None else 0.0 for a, b in pairs))


@dataclass
class DisturbanceGuard:
    """Judges each block by what the kernel counted meanwhile."""

    kernel: KernelCounters = field(default_factory=KernelCounters)
    sleep: Callable[[float], None] = time.sleep
    allowed: float = WAITED_SHARE_AT_MOST
    why: str = ""
    _before: Counters = _UNREAD
    _worst: float = 0.0

    def before(self) -> None:
        """A block is about to begin."""
        self._before = self.kernel.read()

    def judge(self, seconds: float) -> tuple[float, bool]:
        """The share of the block, which took `seconds` in all, that was lost; and whether that spoils it."""
        return self.weigh(self.lost(seconds), seconds)

    def lost(self, seconds: float) -> Waited:
        """What the kernel has counted since the block began."""
        return waited(self._before, self.kernel.read(), seconds)

    def weigh(self, lost: Waited, seconds: float, *, spoilt: bool = False) -> tuple[float, bool]:
        """The share that was lost, and whether that spoils the block, if it isn't `spoilt` by something else."""
        # Steal is counted in ticks: what one of them shows of a block that is shorter is all or nothing.
        if lost.stolen * seconds < 2 * STEAL_TICK_SECONDS:
            lost = lost._replace(stolen=0.0)
        spoilt = spoilt or lost.share > self.allowed
        if spoilt:
            self.keep(lost.share, lost.why)
        return lost.share, spoilt

    def keep(self, share: float, why: str) -> None:
        """Something that spoilt a block: `why` names the worst since it was last emptied."""
        if share > self._worst or not self.why:
            self._worst, self.why = share, why

    def pause(self) -> None:
        """Lets whoever has the core finish its slice."""
        self.sleep(PAUSE_SECONDS)


def enough(clean: int, blocks: int, least: int) -> bool:
    """Whether a contender's clean blocks tell its time: `least` of them, or where there are few in all, half."""
    return clean >= least or 2 * clean >= blocks > 0


def described(kernel: KernelCounters) -> Mapping[str, str]:
    """For the environment: what watches for disturbance here, and what can't be seen."""
    counters = kernel.read()
    missing = [
        word for word, value in (("cgroup throttling", counters.throttled), ("steal", counters.stolen)) if value is None
    ]
    return {"disturbance": kernel.source + (f"; not watched: {', '.join(missing)}" if missing else "")}
