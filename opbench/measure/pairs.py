"""Two contenders in turns: rounds of a block each, in random order. `statistics.shifts` says what that buys."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from opbench.schema import StopReason
from opbench.statistics.shifts import LEAST_ROUNDS, log_ratios, shift

MOST_RETAKES = 3
# Looking at the width after every round would stop at the luckiest one; looks this far apart don't.
LOOK_GROWTH = 1.25

Turn = Callable[[], tuple[float, bool]]


@dataclass
class Rounds:
    """What the turns gave, in seconds per block; the rounds that stayed interrupted; how many blocks were retaken."""

    first: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)
    interrupted: list[int] = field(default_factory=list)
    retaken: int = 0
    stop: StopReason = "budget"

    def take(self, turn: Turn) -> tuple[float, bool]:
        """One block, taken again where it was interrupted: the kernel has just given the core back for a while."""
        for _ in range(MOST_RETAKES):
            seconds, interrupted = turn()
            if not interrupted:
                return seconds, False
            self.retaken += 1
        return turn()


def take_turns(
    first: Turn,
    second: Turn,
    *,
    precision: float,
    budget_seconds: float,
    order: random.Random,
    now: Callable[[], float] = time.perf_counter,
) -> Rounds:
    """Rounds of one block each, in random order, until the ratio's 95 % interval is as narrow as asked or time is up.

    A turn returns the seconds of its block and whether it was interrupted. Stops on the width of the interval, never
    on where it lies: that would call a difference sooner or later.
    """
    rounds = Rounds()
    deadline = now() + budget_seconds
    next_look = LEAST_ROUNDS
    while now() < deadline or len(rounds.first) < 2:
        if order.random() < 0.5:
            ours, theirs = rounds.take(first), rounds.take(second)
        else:
            theirs, ours = rounds.take(second), rounds.take(first)
        if ours[1] or theirs[1]:
            rounds.interrupted.append(len(rounds.first))
        rounds.first.append(ours[0])
        rounds.second.append(theirs[0])
        if len(rounds.first) - len(rounds.interrupted) >= next_look:
            next_look = math.ceil(next_look * LOOK_GROWTH)
            if shift(log_ratios(rounds.first, rounds.second, rounds.interrupted)).half_width <= math.log1p(precision):
                rounds.stop = "precision"
                break
    return rounds
