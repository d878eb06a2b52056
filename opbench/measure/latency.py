"""Latency by panels: every contender of a panel runs in the same process, round after round, in random order.

A machine that drifts (shared cores, clocks, temperature) moves all contenders of a round together, so the ratio to
the baseline taken within a round barely feels it. A sample is a block of n calls, n calibrated per contender so that
reading the clock costs at most 1e-4 of the block. A contender stops when the 95 % interval of its median ratio is as
narrow as asked (`precision`), has stopped narrowing (`plateau`), or the panel's time is spent (`budget`). On a GPU
that slows itself down samples are discarded (NaN) up to a cap; past it the contender stops as `throttled`.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from opbench.measure.throttle import Reading, ThrottleGuard, beyond_cap
from opbench.schema import Latency, StopReason
from opbench.statistics.intervals import interval

TIMER_SHARE = 1e-4
SHORTEST_BLOCK_SECONDS = 2e-3
# Of the longest block of the panel: where a contender takes seconds a call there are few rounds, and a moment's
# interruption must not be all that is seen of a fast one.
LEAST_SHARE = 0.02
LEAST_ROUNDS = 8
# Half-widths shrink like 1/sqrt(rounds). Over twice the rounds that is 29 %; less than a tenth is no progress.
PLATEAU_WINDOW = 2
PLATEAU_SHRINK = 0.9
PLATEAU_LEAST_ROUNDS = 64
# A clock that never shows a block as long enough is broken, not precise: no call is faster than half a nanosecond.
MOST_CALLS = 1 << 22
# Blocks may turn out shorter than calibrated, but not this much: past it the clock that keeps the budget stands still.
ROUNDS_BEYOND_BUDGET = 8

Call = Callable[[], object]


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
        begin = time.perf_counter()
        for _ in range(calls):
            call()
        return time.perf_counter() - begin

    def now(self) -> float:
        """Seconds on the clock that budgets are kept by."""
        return time.perf_counter()


def timer_seconds() -> float:
    """What reading the clock costs: the median of back-to-back readings."""
    gaps = []
    for _ in range(1001):
        begin = time.perf_counter()
        gaps.append(time.perf_counter() - begin)
    return sorted(gaps)[len(gaps) // 2]


@dataclass
class _Lane:
    """One contender while its panel is being timed."""

    call: Call
    calls: int
    block_seconds: float
    seconds: list[float] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    discarded: int = 0
    log_ratios: list[float] = field(default_factory=list)
    half_widths: list[float] = field(default_factory=list)
    stop: StopReason | None = None

    def latency(self, method: str, first_call_seconds: float) -> Latency:
        return Latency(
            method=method,
            calls_per_sample=self.calls,
            samples_seconds=(tuple(self.seconds),),
            first_call_seconds=first_call_seconds,
            stop=self.stop or "budget",
            sm_clock_mhz=(tuple(reading.sm_clock_mhz for reading in self.readings),) if self.readings else (),
            temperature_celsius=(tuple(reading.temperature_celsius for reading in self.readings),)
            if self.readings
            else (),
        )


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
) -> dict[str, Latency]:
    """Times all contenders of a panel, interleaved.

    precision: asked half-width of the ratio's 95 % interval, relative. budget_seconds: wall time for the panel, which
    `least_rounds` may exceed.
    calls_per_sample: what an earlier process calibrated; a contender in it is warmed up and not calibrated again.
    Without a baseline (it failed its own gate) contenders are still timed, each until the budget is spent.
    Raises whatever a contender raises; the caller retries without the guilty one.
    """
    shortest = max(SHORTEST_BLOCK_SECONDS, timer_seconds() / TIMER_SHARE)
    watch = watch or Unwatched()
    lanes = {}
    for name, call in contenders.items():
        watch.before(name)
        known = (calls_per_sample or {}).get(name)
        block = calibrate(call, clock, shortest) if known is None else (known, clock.sample(call, known))
        lanes[name] = _Lane(call, *block)
        watch.after(name)
    longest = max((lane.block_seconds for lane in lanes.values()), default=0.0)
    for name, lane in lanes.items():
        if name not in (calls_per_sample or {}) and lane.block_seconds < LEAST_SHARE * longest:
            lane.calls = math.ceil(lane.calls * LEAST_SHARE * longest / lane.block_seconds)
    order = random.Random(seed)
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    deadline = clock.now() + budget_seconds
    most_rounds = least_rounds + LEAST_ROUNDS + ROUNDS_BEYOND_BUDGET * budget_seconds / shortest
    rounds = 0
    try:
        while running := [name for name, lane in lanes.items() if lane.stop is None]:
            order.shuffle(running)
            for name in running:
                watch.before(name)
                _sample(lanes[name], clock, guard)
                watch.after(name)
            _judge_round(lanes, running, baseline, precision)
            rounds += 1
            if (clock.now() > deadline and rounds >= least_rounds) or rounds > most_rounds:
                for lane in lanes.values():
                    lane.stop = lane.stop or "budget"
            gc.collect(0)
    finally:
        if was_enabled:
            gc.enable()
    return {name: lane.latency(clock.method, first_call_seconds[name]) for name, lane in lanes.items()}


def _sample(lane: _Lane, clock: Clock, guard: ThrottleGuard | None) -> None:
    """One block. What is no time (the clock jumped back) or a slowed-down GPU's keeps its place in the round as NaN."""
    seconds = clock.sample(lane.call, lane.calls) / lane.calls
    lane.seconds.append(seconds if seconds > 0 else math.nan)
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


def _judge_round(lanes: Mapping[str, _Lane], ran: list[str], baseline: str | None, precision: float) -> None:
    """Updates the ratios of the contenders that ran this round and stops those that know enough."""
    if baseline is None or baseline not in ran:  # none there, or itself throttled: no pairs
        return
    base = lanes[baseline]
    for name in ran:
        lane = lanes[name]
        if lane is base:
            continue
        ratio = lane.seconds[-1] / base.seconds[-1]
        if lane.stop or math.isnan(ratio):  # a discarded sample makes no pair
            continue
        lane.log_ratios.append(math.log(ratio))
        lane.stop = stopping_reason(lane.log_ratios, lane.half_widths, precision)
    others = [lane for lane in lanes.values() if lane is not base]
    if others and all(lane.stop for lane in others):
        # A baseline that ran to the end for contenders that throttled has not throttled itself.
        base.stop = base.stop or next((lane.stop for lane in others if lane.stop != "throttled"), "budget")


def stopping_reason(log_ratios: list[float], half_widths: list[float], precision: float) -> StopReason | None:
    """Whether a contender's ratio is known well enough, or won't get any better known. Appends to `half_widths`."""
    low, _, high = interval(log_ratios)
    half_widths.append((high - low) / 2)
    rounds = len(log_ratios)
    if rounds >= LEAST_ROUNDS and half_widths[-1] <= math.log1p(precision):
        return "precision"
    if rounds >= PLATEAU_LEAST_ROUNDS and half_widths[-1] > PLATEAU_SHRINK * half_widths[rounds // PLATEAU_WINDOW - 1]:
        return "plateau"
    return None
