"""Which visit a free node takes next: the longest first, first visits before later ones, lost ones again.

It has no clock, no nodes and no network: whoever drives it says what time it is and what has happened. The executor on
Ray drives it, and so does the simulation of a fleet.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from opbench.engine.executor import Visit

Key = tuple[int, str]

# What has run for so many times its estimate is begun on a second node that has nothing else to do: the first to finish
# counts. An estimate is an upper one, so that only what hangs or runs on a sick node comes to it.
OVERDUE = 2.0
# The shortest visit that is: starting a process takes this long on a busy machine.
OVERDUE_SECONDS = 60.0


class Scheduler:
    """The visits of one node type. `seconds(visit)` is how long one is thought to take, asked when it becomes ready.

    A later visit of a panel is ready when the one before it is finished: it keeps to what that has calibrated. Visits
    whose earlier one isn't among those given are ready at once.
    """

    def __init__(self, visits: Sequence[Visit], seconds: Callable[[Visit], float]) -> None:
        self._seconds = seconds
        self._visits = {visit.key: visit for visit in visits}
        self._order = {key: place for place, key in enumerate(self._visits)}
        self._ready: list[tuple[int, float, int, Key]] = []
        self._running: dict[Key, list[float]] = {}
        self._expected: dict[Key, float] = {}
        for (replica, panel), visit in self._visits.items():
            if (replica - 1, panel) not in self._visits:
                self._offer(visit)
        self._left = set(self._visits)

    @property
    def left(self) -> int:
        """How many visits are not finished."""
        return len(self._left)

    def begin(self, now: float) -> Visit | None:
        """The visit that a free node takes now; None where there is none for it at present."""
        while self._ready:
            *_, key = heapq.heappop(self._ready)
            if key in self._left:
                self._running.setdefault(key, []).append(now)
                return self._visits[key]
        return self._second(now)

    def finished(self, visit: Visit) -> bool:
        """A node has finished it; False where another was faster, whose result counts."""
        self._ended(visit)
        if visit.key not in self._left:
            return False
        self._left.remove(visit.key)
        replica, panel = visit.key
        if (later := self._visits.get((replica + 1, panel))) is not None:
            self._offer(later)
        return True

    def lost(self, visit: Visit) -> None:
        """The node that measured it is gone: it is measured again, unless another node has it or had it."""
        self._ended(visit)
        if visit.key in self._left and visit.key not in self._running:
            self._offer(visit)

    def _offer(self, visit: Visit) -> None:
        expected = self._expected[visit.key] = self._seconds(visit)
        heapq.heappush(self._ready, (visit.replica, -expected, self._order[visit.key], visit.key))

    def _ended(self, visit: Visit) -> None:
        runs = self._running.get(visit.key, [])
        if runs:
            runs.pop(0)
        if not runs:
            self._running.pop(visit.key, None)

    def _second(self, now: float) -> Visit | None:
        """What is overdue on one node, the longest overdue first."""
        late = [
            (begun[0], key)
            for key, begun in self._running.items()
            if len(begun) == 1
            and key in self._left
            and now - begun[0] > max(OVERDUE_SECONDS, OVERDUE * self._expected[key])
        ]
        if not late:
            return None
        _, key = min(late)
        self._running[key].append(now)
        return self._visits[key]
