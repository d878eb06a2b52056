"""Two contenders in turns: rounds of a block each, in random order. `statistics.shifts` says what that buys.

A round in which either block was disturbed is taken again whole, a few times: two blocks that were taken with a
retake between them are no pair.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from opbench.schema import StopReason
from opbench.statistics.shifts import LEAST_CLEAN, LEAST_ROUNDS, log_ratios, shift

MOST_RETAKES = 3
# Looking at the width after every round would stop at the luckiest one; looks this far apart don't.
LOOK_GROWTH = 1.25

# Rounds in place of disturbed ones are taken until the budget is spent this many times.
RETAKING = 1.5
# No block is shorter than this, so that a clock which stands still doesn't keep the rounds going for ever.
SHORTEST_BLOCK_SECONDS = 1e-4


class TimedTurn(NamedTuple):
    """One block of calls: its seconds, whether it was disturbed, and the share of it that was spent waiting."""

    seconds: float
    interrupted: bool
    waited: float = 0.0


Turn = Callable[[], TimedTurn | tuple[float, bool]]


@dataclass
class Rounds:
    """What the turns gave, in seconds per block; the rounds that stayed interrupted; how many rounds were retaken."""

    first: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)
    first_waited: list[float] = field(default_factory=list)
    second_waited: list[float] = field(default_factory=list)
    interrupted: list[int] = field(default_factory=list)
    retaken: int = 0
    stop: StopReason = "budget"

    @property
    def clean(self) -> int:
        """Rounds in which neither block was disturbed."""
        return len(self.first) - len(self.interrupted)

    def take(self, first: Turn, second: Turn, order: random.Random) -> None:
        """One round, taken again where it was interrupted: the kernel has just given the core back for a while."""
        ours_first = order.random() < 0.5
        for attempt in range(MOST_RETAKES + 1):
            one = TimedTurn(*(first if ours_first else second)())
            other = TimedTurn(*(second if ours_first else first)())
            disturbed = one.interrupted or other.interrupted
            if not disturbed:
                break
            self.retaken += attempt < MOST_RETAKES
        ours, theirs = (one, other) if ours_first else (other, one)
        if disturbed:
            self.interrupted.append(len(self.first))
        self.first.append(ours.seconds)
        self.second.append(theirs.seconds)
        self.first_waited.append(ours.waited)
        self.second_waited.append(theirs.waited)


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
    on where it lies: that would call a difference sooner or later. Where rounds were interrupted and few are left, half
    of the budget more is spent on others.
    """
    rounds = Rounds()
    begin = now()
    next_look = LEAST_ROUNDS
    most = LEAST_ROUNDS + math.ceil(RETAKING * budget_seconds / SHORTEST_BLOCK_SECONDS)
    while len(rounds.first) < most:
        spent = now() - begin
        short = len(rounds.interrupted) > 0 and rounds.clean < LEAST_CLEAN
        if spent >= budget_seconds * (RETAKING if short else 1) and len(rounds.first) >= 2:
            break
        rounds.take(first, second, order)
        if rounds.clean >= next_look:
            next_look = math.ceil(next_look * LOOK_GROWTH)
            if shift(log_ratios(rounds.first, rounds.second, rounds.interrupted)).half_width <= math.log1p(precision):
                rounds.stop = "precision"
                break
    return rounds
