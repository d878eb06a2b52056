"""What `opbench decide` finds out: the places of a slot, what each contender costs in all of them, how they stand."""

from __future__ import annotations

from typing import Literal

import msgspec

from opbench.statistics.ratios import FEWEST_ROUNDS, Ratio

# front: nothing that learns is known to be better on both, latency and parameters. undecided: something may be.
# dominated: something is. fixed: it has no parameters, so it is no rival of what learns. unpriced: a figure is missing.
CostStanding = Literal["front", "undecided", "dominated", "fixed", "unpriced"]


class PlacesOfShape(msgspec.Struct, frozen=True):
    """The modules of a slot that meet inputs of one shape: one workload.

    `modules` of them are there (parameters count once each), called `calls` times for one output of the network.
    """

    task: str
    workload: str
    dims: dict[str, int]
    names: tuple[str, ...]
    modules: int
    calls: int
    source: str = ""


class OutOfReach(msgspec.Struct, frozen=True):
    """A place of the network, or a contender, that no figure is of, and why."""

    what: str
    why: str


class Versus(msgspec.Struct, frozen=True):
    """The latency of one contender over another's, over all places together."""

    contender: str
    ratio: Ratio

    @property
    def sure(self) -> bool:
        """Whether its interval has enough rounds to decide anything."""
        return self.ratio.rounds >= FEWEST_ROUNDS and self.ratio.method not in ("one-round", "range")

    @property
    def slower(self) -> bool:
        """Whether the first is slower, by the whole interval."""
        return self.sure and self.ratio.low > 1

    @property
    def faster(self) -> bool:
        """Whether the first is faster, by the whole interval."""
        return self.sure and self.ratio.high < 1


class PricedContender(msgspec.Struct, frozen=True):
    """What one contender costs in all places of the slot together.

    Parameters are summed over modules; MACs, traffic, what is saved for backward and seconds over calls; peak memory is
    the largest of any place. `ratio` is its latency over the baseline's. `ranks`: of all that were timed, 1 is the
    fastest; a range where intervals don't tell. `beaten_by` are those that are faster with no more parameters, by
    intervals; `perhaps` those that may be.
    """

    contender: str
    operator: str
    implementation: str
    outcome: str
    standing: CostStanding
    message: str = ""
    params: int | None = None
    macs: int | None = None
    traffic_bytes: int | None = None
    peak_bytes: int | None = None
    saved_bytes: int | None = None
    seconds: float | None = None
    ratio: Ratio | None = None
    ranks: tuple[int, int] | None = None
    beaten_by: tuple[Versus, ...] = ()
    perhaps: tuple[Versus, ...] = ()


class PricedSlot(msgspec.Struct, frozen=True):
    """One slot of the network: its places, the baseline that stands for what is there, and every contender, ranked."""

    task: str
    baseline: str
    places: tuple[PlacesOfShape, ...]
    contenders: tuple[PricedContender, ...]
    skipped: tuple[OutOfReach, ...] = ()

    @property
    def stands_there(self) -> PricedContender | None:
        """The baseline's row, where the run has one."""
        return next((one for one in self.contenders if one.contender == self.baseline), None)

    def of(self, *standings: CostStanding) -> tuple[PricedContender, ...]:
        """The contenders that stand so, as ranked."""
        return tuple(one for one in self.contenders if one.standing in standings)


class NetworkDecision(msgspec.Struct, frozen=True):
    """The answer of `opbench decide`. `left_out` are places that no contender can take."""

    target: str
    network: str
    input_shape: tuple[int, ...]
    dtype: str
    device: str
    mode: str
    spread: float
    threads: int
    machine: str
    started: str
    command: str
    quality: str
    slots: tuple[PricedSlot, ...]
    left_out: tuple[OutOfReach, ...] = ()
