"""Targets as a table: what was hoped for, what was measured with its interval, and whether that meets it."""

from __future__ import annotations

from opbench.analyse.standings import standings
from opbench.analyse.targets import JudgedTarget, judge
from opbench.report import numbers
from opbench.report.table import Table
from opbench.schema import Quantity, Run, Target
from opbench.statistics.roofline import TOO_LOW

NOTE = (
    "In brackets: the 95 % interval of a ratio of latencies; the ends of the intervals of latency and yardstick "
    "together for a ratio to the roofline; the range over fresh processes of a first call; none for memory, which is "
    "counted. Met: the whole interval is on the right side; missed: none of it; undecided: the target lies inside."
)

_WORDS: dict[Quantity, str] = {
    "speed-up": "times as fast as {against}",
    "slow-down": "times the latency of {against}",
    "roofline": "latency over the machine's least time (roofline)",
    "memory": "inputs, parameters and peak over the least bytes",
    "first-call-cold": "first call, nothing compiled",
    "first-call-cached": "first call, compiled before",
}
_SECONDS = ("first-call-cold", "first-call-cached")


def targets(run: Run) -> Table:
    """One row for each target of the run and panel it speaks of."""
    rows = tuple(
        (
            found.panel,
            found.contender or found.target.contender,
            _WORDS[found.target.quantity].format(against=found.against or found.target.against or "the baseline"),
            _wanted(found.target),
            _measured(found),
            found.met,
        )
        for found in judge(run, standings(run))
    )
    return Table(("panel", "contender", "quantity", "target", "measured", "met"), rows, NOTE, names=(0, 1))


def _wanted(target: Target) -> str:
    if target.at_least is not None:
        return f"at least {_number(target, target.at_least)}"
    return f"at most {_number(target, target.at_most)}"


def _measured(found: JudgedTarget) -> str:
    if found.value is None or found.low is None or found.high is None:
        return found.missing
    value = _number(found.target, found.value)
    if found.low == found.high:
        return value
    low, high = (_number(found.target, end).removesuffix("x") for end in (found.low, found.high))
    too_low = f", {TOO_LOW}" if found.target.quantity == "roofline" and found.value < 1 else ""
    return f"{value} [{low}, {high}]{too_low}"


def _number(target: Target, value: float | None) -> str:
    return numbers.seconds(value) if target.quantity in _SECONDS else f"{numbers.plain(value)}x"
