"""Lanes: what is known of each contender of a panel while it is timed, round by round, and when it is known enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from opbench.measure.disturbance import enough
from opbench.measure.phases import Used
from opbench.measure.throttle import Reading
from opbench.schema import Latency, StopReason
from opbench.statistics.intervals import interval

LEAST_ROUNDS = 8
# Half-widths shrink like 1/sqrt(rounds). Over twice the rounds that is 29 %; less than a tenth is no progress.
PLATEAU_WINDOW = 2
PLATEAU_SHRINK = 0.9
PLATEAU_LEAST_ROUNDS = 64
# Why a contender stopped that is nobody else's reason.
OWN_STOPS: frozenset[StopReason] = frozenset({"throttled", "disturbed"})

Call = Callable[[], object]


@dataclass
class Lane:
    """One contender while its panel is being timed."""

    call: Call
    calls: int
    block_seconds: float
    seconds: list[float] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    discarded: int = 0
    waited: list[float] = field(default_factory=list)
    disturbed: bool = False  # in its last block
    # Positions of the rounds in which neither it nor the baseline was disturbed: those that are pairs.
    clean: list[int] = field(default_factory=list)
    log_ratios: list[float] = field(default_factory=list)
    half_widths: list[float] = field(default_factory=list)
    stop: StopReason | None = None

    def enough(self, least: int) -> bool:
        """Whether its clean rounds tell its time."""
        return enough(len(self.clean), len(self.seconds), least)

    def latency(self, method: str, first_call_seconds: float, used: Used | None) -> Latency:
        """What was measured; `used`: which rounds figures are of, None where nothing was watched."""
        gauged = bool(self.readings)
        return Latency(
            method=method,
            calls_per_sample=self.calls,
            samples_seconds=(tuple(self.seconds),),
            first_call_seconds=first_call_seconds,
            stop=self.stop or "budget",
            sm_clock_mhz=(tuple(reading.sm_clock_mhz for reading in self.readings),) if gauged else (),
            temperature_celsius=(tuple(reading.temperature_celsius for reading in self.readings),) if gauged else (),
            waited=(tuple(min(round(1000 * share), 10**6) for share in self.waited),) if used else (),
            left_out=(used.left_out,) if used and used.left_out else (),
            phase=used.phase if used else "",
        )


def judge_round(lanes: Mapping[str, Lane], ran: list[str], baseline: str | None, precision: float, clear: bool) -> None:
    """Updates the ratios of the contenders that ran this round and stops those that know enough."""
    base = lanes[baseline] if baseline is not None and baseline in ran else None
    for name in ran:
        lane = lanes[name]
        if not lane.disturbed and (base is None or not base.disturbed):
            lane.clean.append(len(lane.seconds) - 1)
        if base is None or lane is base:  # no baseline, or itself throttled: no pairs
            continue
        ratio = lane.seconds[-1] / base.seconds[-1]
        # A discarded sample makes no pair, and a figure is of one phase.
        if lane.stop or math.isnan(ratio) or not clear or lane.disturbed or base.disturbed:
            continue
        lane.log_ratios.append(math.log(ratio))
        lane.stop = stopping_reason(lane.log_ratios, lane.half_widths, precision)
    if base is None:
        return
    others = [lane for lane in lanes.values() if lane is not base]
    if others and all(lane.stop for lane in others):
        # A baseline that ran to the end for contenders that throttled has not throttled itself.
        base.stop = base.stop or next((lane.stop for lane in others if lane.stop not in OWN_STOPS), "budget")


def stop_the_rest(lanes: Mapping[str, Lane], baseline: str | None, patient: bool) -> None:
    """The budget is spent. Who has too few clean rounds goes on while there is patience, and the baseline with it."""
    going_on = False
    for name, lane in lanes.items():
        if lane.stop is None and (name != baseline or len(lanes) == 1):
            told = lane.enough(LEAST_ROUNDS)
            going_on = going_on or (patient and not told)
            if told or not patient:
                lane.stop = "budget" if told else "disturbed"
    base = lanes.get(baseline or "")
    if base and base.stop is None and not going_on:
        base.stop = "budget" if base.enough(LEAST_ROUNDS) else "disturbed"


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
