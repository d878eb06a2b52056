"""Pinning: a process that measures is kept on as many cores as it has threads, where the system allows it.

A process that the kernel moves finds cold caches, and one whose threads meet on one hyperthreaded core is slow for as
long as they stay. The cores are chosen once, one of each pair of siblings first, and a child takes them over when it
is started. A machine that doesn't allow it is said in the environment. Threads are not bound one by one: whatever a
contender starts would be bound to the core of the thread that started it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from opbench.measure.system_files import line

# Where the environment says it.
PINNED = "threads pinned"


class Pinning(NamedTuple):
    """The cores, or none and why not."""

    cores: tuple[int, ...]
    why_not: str = ""

    @property
    def said(self) -> str:
        """For the environment."""
        return f"to cores {','.join(map(str, self.cores))}" if self.cores else f"not pinned: {self.why_not}"


def choose(
    threads: int, allowed: Collection[int] | None = None, system: Path = Path("/sys/devices/system/cpu")
) -> Pinning:
    """Cores for so many threads, out of the `allowed` ones (None: as the system says)."""
    if allowed is None:
        if not hasattr(os, "sched_setaffinity"):
            return Pinning((), "this system has no affinity")
        allowed = os.sched_getaffinity(0)
    if threads > len(allowed):
        return Pinning((), f"{threads} threads on {len(allowed)} allowed cores")
    # A core's first hyperthread before any second one. The highest: the system's own work is mostly on core 0.
    ranked = sorted(allowed, key=lambda core: (is_sibling(core, allowed, system), -core))
    return Pinning(tuple(sorted(ranked[:threads])))


def is_sibling(core: int, allowed: Collection[int], system: Path) -> bool:
    """Whether a higher allowed core is the same piece of hardware."""
    listed = line(system / f"cpu{core}" / "topology" / "thread_siblings_list")
    return any(other > core and other in allowed for other in _cores(listed))


def _cores(listed: str) -> Iterator[int]:
    """`0,4` or `0-1`."""
    for part in filter(None, listed.split(",")):
        first, _, last = part.partition("-")
        if first.isdigit() and (not last or last.isdigit()):
            yield from range(int(first), int(last or first) + 1)


@contextlib.contextmanager
def inherited(
    pinning: Pinning,
    affinity: Callable[[], Collection[int]] | None = None,
    pin: Callable[[Collection[int]], None] | None = None,
) -> Iterator[None]:
    """A process that is started meanwhile keeps to the cores; this one doesn't, beyond it."""
    if not pinning.cores:
        yield
        return
    affinity = affinity or (lambda: os.sched_getaffinity(0))
    pin = pin or (lambda cores: os.sched_setaffinity(0, cores))
    before = affinity()
    try:
        pin(pinning.cores)
    except OSError:  # the cores were taken from this process since they were chosen
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            pin(before)
