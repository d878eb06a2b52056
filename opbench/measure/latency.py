"""Latency by panels: every contender of a panel runs in the same process, round after round, in random order.

A machine that drifts (shared cores, clocks, temperature) moves all contenders of a round together, so the ratio to
the baseline taken within a round barely feels it. A sample is a block of n calls, n calibrated per contender so that
reading the clock costs at most 1e-4 of the block. A contender stops when the 95 % interval of its median ratio is as
narrow as asked (`precision`), has stopped narrowing (`plateau`), or the panel's time is spent (`budget`). On a GPU
that slows itself down samples are discarded (NaN) up to a cap; past it the contender stops as `throttled`. On the CPU
blocks that waited for a core are left out; a contender without enough clean rounds stops as `disturbed`.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Mapping
from typing import Protocol

from opbench.measure.lanes import LEAST_ROUNDS, Call, Lane, judge_round, stop_the_rest
from opbench.measure.phases import used
from opbench.measure.throttle import ThrottleGuard, beyond_cap
from opbench.measure.watching import DisturbanceWatch
from opbench.schema import Latency

TIMER_SHARE = 1e-4
SHORTEST_BLOCK_SECONDS = 2e-3
# Of the longest block of the panel: where a contender takes seconds a call there are few rounds, and a moment's
# interruption must not be all that is seen of a fast one.
LEAST_SHARE = 0.02
# A clock that never shows a block as long enough is broken, not precise: no call is faster than half a nanosecond.
MOST_CALLS = 1 << 22
# Blocks may turn out shorter than calibrated, but not this much: past it the clock that keeps the budget stands still.
ROUNDS_BEYOND_BUDGET = 8
# Rounds in place of disturbed ones are taken until the budget is spent this many times.
RETAKING = 1.5

# Held from before foreign code is loaded, which may put another in its place.
_now = time.perf_counter


class Clock(Protocol):
    """How one timing method takes a sample."""

    method: str

    def prepare(self, call: Call) -> None:
        """What the method needs before its first sample; raises if the call can't be timed this way."""
        ...

    def sample(self, call: Call, calls: int) -> float:
        """Seconds that `calls` calls took, together."""
        ...

    def now(self) -> float:
        """Seconds on the clock that budgets are kept by."""
        ...


class Watch(Protocol):
    """Who is told of every block of calls, outside the timed span."""

    def before(self, name: str) -> None:
        """The contender is about to be called."""
        ...

    def after(self, name: str) -> None:
        """The block is over."""
        ...


class Unwatched:
    """Nobody."""

    def before(self, name: str) -> None:
        """Nothing."""

    def after(self, name: str) -> None:
        """Nothing."""


class WallClock:
    """The CPU's method: a monotonic clock around the block."""

    method = "cpu-wall"

    def prepare(self, call: Call) -> None:
        """Nothing: any call can be timed from outside."""

    def sample(self, call: Call, calls: int) -> float:
        """Seconds that `calls` calls took, together."""
        begin = _now()
        for _ in range(calls):
            call()
        return _now() - begin

    def now(self) -> float:
        """Seconds on the clock that budgets are kept by."""
        return _now()


def timer_seconds() -> float:
    """What reading the clock costs: the median of back-to-back readings."""
    gaps = []
    for _ in range(1001):
        begin = _now()
        gaps.append(_now() - begin)
    return sorted(gaps)[len(gaps) // 2]


def measure_panel(
    contenders: Mapping[str, Call],
    baseline: str | None,
    *,
    clock: Clock,
    precision: float,
    budget_seconds: float,
    least_rounds: int = 1,
    first_call_seconds: Mapping[str, float],
    seed: int,
    calls_per_sample: Mapping[str, int] | None = None,
    watch: Watch | None = None,
    guard: ThrottleGuard | None = None,
    around: DisturbanceWatch | None = None,
) -> dict[str, Latency]:
    """Times all contenders of a panel, interleaved.

    precision: asked half-width of the ratio's 95 % interval, relative. budget_seconds: wall time for the panel, which
    `least_rounds` may exceed, and by half of it the rounds that replace disturbed ones.
    calls_per_sample: what an earlier process calibrated; a contender in it is warmed up and not calibrated again.
    Without a baseline (it failed its own gate) contenders are still timed, each until the budget is spent.
    Raises whatever a contender raises; the caller retries without the guilty one.
    """
    if around is not None:
        around.begin_panel()
    shortest = max(SHORTEST_BLOCK_SECONDS, timer_seconds() / TIMER_SHARE)
    watch = watch or Unwatched()
    lanes = {}
    for name, call in contenders.items():
        watch.before(name)
        known = (calls_per_sample or {}).get(name)
        block = calibrate(call, clock, shortest) if known is None else (known, clock.sample(call, known))
        lanes[name] = Lane(call, *block)
        watch.after(name)
    longest = max((lane.block_seconds for lane in lanes.values()), default=0.0)
    for name, lane in lanes.items():
        if name not in (calls_per_sample or {}) and lane.block_seconds < LEAST_SHARE * longest:
            lane.calls = math.ceil(lane.calls * LEAST_SHARE * longest / lane.block_seconds)
    order = random.Random(seed)
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    begin = clock.now()
    most_rounds = least_rounds + LEAST_ROUNDS + ROUNDS_BEYOND_BUDGET * budget_seconds / shortest
    rounds = 0
    try:
        while running := [name for name, lane in lanes.items() if lane.stop is None]:
            clear = around.begin_round() if around else True
            order.shuffle(running)
            for name in running:
                watch.before(name)
                _sample(lanes[name], clock, guard, around)
                watch.after(name)
            judge_round(lanes, running, baseline, precision, clear)
            rounds += 1
            spent = clock.now() - begin
            if (spent > budget_seconds and rounds >= least_rounds) or rounds > most_rounds:
                patient = around is not None and rounds <= most_rounds and spent < RETAKING * budget_seconds
                stop_the_rest(lanes, baseline, patient)
            gc.collect(0)
    finally:
        if was_enabled:
            gc.enable()
    clear_rounds = around.end_panel() if around else []
    return {name: _latency(lane, clock, first_call_seconds[name], clear_rounds) for name, lane in lanes.items()}


def _latency(lane: Lane, clock: Clock, first_call_seconds: float, clear: list[bool]) -> Latency:
    chosen = used(clear, lane.clean, len(lane.seconds), LEAST_ROUNDS) if clear else None
    return lane.latency(clock.method, first_call_seconds, chosen)


def _sample(lane: Lane, clock: Clock, guard: ThrottleGuard | None, around: DisturbanceWatch | None) -> None:
    """One block. What is no time (the clock jumped back) or a slowed-down GPU's keeps its place in the round as NaN."""
    if around is not None:
        around.guard.before()
    block = clock.sample(lane.call, lane.calls)
    seconds = block / lane.calls
    lane.seconds.append(seconds if seconds > 0 else math.nan)
    if around is not None:
        share, lane.disturbed = around.guard.judge(block)
        lane.waited.append(share)
        if lane.disturbed:
            around.guard.pause()
    if guard is None:
        return
    reading, spoilt = guard.judge()
    lane.readings.append(reading)
    if spoilt:
        lane.seconds[-1] = math.nan
        lane.discarded += 1
        if beyond_cap(lane.discarded, len(lane.seconds)):
            lane.stop = "throttled"
        else:
            guard.pause()


def calibrate(call: Call, clock: Clock, shortest: float) -> tuple[int, float]:
    """Calls per block so that a block takes at least `shortest` seconds, and what it took. Doubles as warm-up.

    Raises RuntimeError for a clock by which no block is ever long enough.
    """
    calls = 1
    while (seconds := clock.sample(call, calls)) < shortest:
        if calls >= MOST_CALLS:
            raise RuntimeError(f"{clock.method}: {calls} calls took {seconds:g} s: this clock stands still")
        calls = min(MOST_CALLS, max(calls + 1, min(calls * 8, math.ceil(1.2 * calls * shortest / max(seconds, 1e-9)))))
    return calls, seconds
