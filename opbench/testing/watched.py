"""Rounds of pytest-benchmark that waited for a core are left out; a case without enough others is disturbed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from opbench.measure.disturbance import DisturbanceGuard, enough

SECONDS = 1.0
LEAST_ROUNDS = 5
MOST_ROUNDS = 10_000


class WatchedRounds:
    """Judges each round when the next one is set up, and the last one at the end."""

    def __init__(self, guard: DisturbanceGuard) -> None:
        self.guard, self.taken = guard, 0
        self.lost: list[bool] = []

    def set_up(self, durations: Sequence[float]) -> None:
        """Another round is about to begin, after those that took `durations` seconds."""
        self.judge(durations)
        self.guard.before()

    def judge(self, durations: Sequence[float]) -> None:
        """The round that was taken last, if it wasn't judged yet."""
        if len(durations) > self.taken:
            self.taken = len(durations)
            self.lost.append(self.guard.judge(durations[-1])[1])

    def clean(self, durations: Sequence[float]) -> list[float] | None:
        """The durations that count; None where they are too few."""
        kept = [seconds for seconds, lost in zip(durations, self.lost, strict=True) if not lost]
        return kept if enough(len(kept), len(durations), LEAST_ROUNDS) else None


def run(benchmark: Any, call: Callable[[], Any], guard: DisturbanceGuard | None = None) -> Any:
    """What the last call gave, after rounds of one call each; skips the test where other processes had the cores.

    A fixture that keeps no rounds of its own, as pytest-codspeed's, chooses how to time.
    """
    if not hasattr(benchmark, "stats"):
        return benchmark(call)
    call()
    begin = time.perf_counter()
    call()
    seconds = max(time.perf_counter() - begin, 1e-6)
    rounds = min(MOST_ROUNDS, max(LEAST_ROUNDS, math.ceil(SECONDS / seconds)))
    watched = WatchedRounds(guard or DisturbanceGuard())

    def durations() -> list[float]:
        found: list[float] = benchmark.stats.stats.data if benchmark.stats else []
        return found

    try:
        last = benchmark.pedantic(call, setup=lambda: watched.set_up(durations()), rounds=rounds)
        if benchmark.stats is None:  # nothing is timed: --benchmark-disable, pytest-xdist
            return last
        data = durations()
        watched.judge(data)
        clean = watched.clean(data)
        benchmark.extra_info["disturbed_rounds"] = sum(watched.lost)
        data[:] = clean or []  # a case without rounds stands in no table
        if clean is None:
            import pytest

            pytest.skip(f"disturbed: {watched.guard.why}; use OMP_NUM_THREADS=1, or another hour")
        return last
    finally:
        watched.guard.kernel.close()
