"""Rounds of pytest-benchmark that waited for a core are left out; a case without enough others is disturbed."""

import math
import time

import pytest

from opbench.measure.disturbance import DisturbanceGuard, enough

SECONDS = 1.0
LEAST_ROUNDS = 5
MOST_ROUNDS = 10_000


class WatchedRounds:
    """Judges each round when the next one is set up, and the last one at the end."""

    def __init__(self, guard):
        self.guard, self.lost, self.taken = guard, [], 0

    def set_up(self, durations):
        """Another round is about to begin, after those that took `durations`."""
        self.judge(durations)
        self.guard.before()

    def judge(self, durations):
        """The round that was taken last, if it wasn't judged yet."""
        if len(durations) > self.taken:
            self.taken = len(durations)
            self.lost.append(self.guard.judge(durations[-1])[1])

    def clean(self, durations):
        """The durations that count; None where they are too few."""
        kept = [seconds for seconds, lost in zip(durations, self.lost, strict=True) if not lost]
        return kept if enough(len(kept), len(durations), LEAST_ROUNDS) else None


def run(benchmark, call, built, guard=None):
    """The case in rounds of one call each; skips it by name where other processes had the cores."""
    call(built)
    begin = time.perf_counter()
    call(built)
    seconds = max(time.perf_counter() - begin, 1e-6)
    rounds = min(MOST_ROUNDS, max(LEAST_ROUNDS, math.ceil(SECONDS / seconds)))
    watched = WatchedRounds(guard or DisturbanceGuard())

    def durations():
        return benchmark.stats.stats.data if benchmark.stats else []

    try:
        benchmark.pedantic(call, args=(built,), setup=lambda: watched.set_up(durations()), rounds=rounds)
        if benchmark.stats is None:  # nothing is timed: --benchmark-disable
            return
        data = durations()
        watched.judge(data)
        clean = watched.clean(data)
        benchmark.extra_info["disturbed_rounds"] = sum(watched.lost)
        data[:] = clean or []  # a case without rounds stands in no table
        if clean is None:
            pytest.skip(f"disturbed: {watched.guard.why}; use OMP_NUM_THREADS=1, or another hour")
    finally:
        watched.guard.kernel.close()
