"""How much longer than asked a limit has to be on a machine that gives its processes less than a core.

A limit in seconds is meant for a core of one's own. At a tenth of a core (a container's quota) or beside ten other
processes the same work takes ten times as long, and that is no hang. It is looked at when a limit has been reached, and
only then: a short piece of work of this process shows what share of a core it gets.
"""

from __future__ import annotations

import time

# Of this thread's own time on a core: longer than a container's quota lasts at a tenth of a core (10 ms of 100).
SPIN_SECONDS = 0.03
# Below it a machine is as good as free.
BUSY = 1.5
MOST = 20.0
# A gap between two looks at a child as long as this: this process didn't run (a suspended machine, a stopped group).
PAUSED_SECONDS = 2.0


def slowdown() -> float:
    """Seconds by the clock for a second on a core; 1 where nothing else wants the core, 20 at most."""
    began, worked = time.monotonic(), time.thread_time()
    while time.thread_time() - worked < SPIN_SECONDS:
        pass
    found = (time.monotonic() - began) / SPIN_SECONDS
    return 1.0 if found < BUSY else min(found, MOST)


class Limit:
    """Seconds that something may be silent for: as asked, longer where the machine is slow, not counting a pause."""

    def __init__(self, now: float) -> None:
        self._since = self._looked = now
        self._slow = 1.0

    def heard(self, now: float) -> None:
        """A sign of life."""
        self._since = self._looked = now
        self._slow = 1.0

    def reached(self, seconds: float, now: float) -> bool:
        """Whether it has been silent for longer than `seconds`; asked several times a second."""
        if now - self._looked > PAUSED_SECONDS:
            self._since += now - self._looked
        self._looked = now
        if now - self._since <= seconds * self._slow:
            return False
        self._slow = max(self._slow, slowdown())
        return now - self._since > seconds * self._slow

    @property
    def why(self) -> str:
        """What the limit was multiplied by, for the sentence that says that it was reached."""
        return f", {self._slow:.1f} times as long on a machine as busy as this" if self._slow > 1 else ""
