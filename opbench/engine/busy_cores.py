"""How many cores a contender's calls keep busy: more than the run has threads is more than the others may have.

Threads that are gone when a call returns are seen by nobody who counts threads. What the process has computed, on all
cores together, tells of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from opbench.plural import counted

# Beyond as many cores as there are threads, which can't use more by themselves: a clock's grain and other noise do.
HALF_A_CORE = 0.5
# Blocks shorter than this together say nothing.
LEAST_SECONDS = 0.05
# So long nobody is called, to see what computes all the same, and for what share of the time at most.
IDLE_SECONDS, IDLE_SHARE = 0.02, 0.1

# Taken before foreign code is loaded, which may put others in their place.
_now, _computed, _sleep = time.perf_counter, time.process_time, time.sleep


@dataclass
class BusyCores:
    """Of one contender's blocks. `computed` gives the seconds that the process has computed, on all cores together.

    `allowed` None asks nothing.
    """

    allowed: int | None = None
    computed: Callable[[], float] = _computed
    now: Callable[[], float] = _now
    _begun: float = 0.0
    _seconds: float = 0.0
    _busy: float = 0.0

    def begin(self) -> None:
        """A block is about to begin."""
        self._begun = self.computed()

    def end(self, seconds: float) -> str:
        """A block of so many seconds is over: why its contender has more than it may, or ""."""
        self._busy += self.computed() - self._begun
        self._seconds += seconds
        if self.allowed is None or self._seconds < LEAST_SECONDS:
            return ""
        cores = self._busy / self._seconds
        if cores < self.allowed + HALF_A_CORE:
            return ""
        # What another contender has left at work in this process shows while nobody is called.
        began, computed = self.now(), self.computed()
        _sleep(IDLE_SECONDS)
        if self.computed() - computed > IDLE_SHARE * (self.now() - began):
            self._seconds = self._busy = 0.0
            return ""
        return f"keeps {cores:.1f} cores busy, where the run has {counted(self.allowed, 'thread')}"
