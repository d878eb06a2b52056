"""What was hoped for against what was measured: each target of a run with its value, interval and verdict."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from opbench.analyse.standings import Row, Standing
from opbench.quantities import HELD, MIN_BYTES, PEAK
from opbench.schema import DEFAULT_RUNTIME, Case, Quantity, Run, Target, runtime_part
from opbench.statistics.roofline import over_least_time, roofline

Met = Literal["met", "missed", "undecided", "not measured"]
# (value, low, high)
Value = tuple[float, float, float]


class JudgedTarget(msgspec.Struct, frozen=True):
    """A target and what the run says of it. Without a value, `missing` names the reason.

    met: the whole interval is on the right side; missed: none of it; undecided: the target lies inside it.
    `contender` is the row that the target turned out to mean.
    """

    target: Target
    panel: str
    met: Met
    value: float | None = None
    low: float | None = None
    high: float | None = None
    against: str = ""
    missing: str = ""
    contender: str = ""


def judge(run: Run, standings: Sequence[Standing]) -> tuple[JudgedTarget, ...]:
    """Every target of the run, once for each panel that it speaks of."""
    return tuple(judged for target in run.targets for judged in _judge(run, standings, target))


def _judge(run: Run, standings: Sequence[Standing], target: Target) -> Iterator[JudgedTarget]:
    found = [one for one in standings if _speaks_of(target, one.case)]
    if not found:
        place = (target.task, target.workload, target.dtype, target.device, target.mode)
        executed = () if target.runtime == DEFAULT_RUNTIME else (runtime_part(target.runtime),)
        yield JudgedTarget(target, "/".join((*place, *executed)), "not measured", missing="no such panel in this run")
    for standing in found:
        against = target.against or standing.panel.baseline
        row = _meant(standing, target)
        if row is None or row.outcome != "ok":
            reason = f"{target.contender} {row.outcome if row else 'is not in this panel'}"
            yield JudgedTarget(target, standing.panel.id, "not measured", missing=reason)
            continue
        other = standing.row(against) or _variant(standing.rows, against)
        value = _VALUES[target.quantity](run, standing, row, other.case.contender if other else against)
        if isinstance(value, str):
            yield JudgedTarget(target, standing.panel.id, "not measured", missing=value)
        else:
            name = row.case.contender
            yield JudgedTarget(
                target, standing.panel.id, _verdict(target, value), *value, against=against, contender=name
            )


def _speaks_of(target: Target, case: Case) -> bool:
    """Whether a target is about the panel of a case; one across runtimes holds whichever the target names.

    All targets are of the default memory format.
    """
    if case.unusual_format:
        return False
    places = ((one.task, one.workload, one.dtype, one.device, one.mode, one.across_runtimes) for one in (target, case))
    return len(set(places)) == 1 and (target.across_runtimes or target.runtime == case.runtime)


def _meant(standing: Standing, target: Target) -> Row | None:
    """The row of the target's contender in its runtime; of an operator without brackets, its fastest there."""
    rows = [row for row in standing.rows if row.case.runtime == target.runtime]
    if "[" not in target.contender:
        own = [row for row in rows if row.case.operator == target.contender]
        timed = [(median, row) for row in own if (median := _median(standing, row)) is not None]
        return min(timed, key=lambda one: one[0])[1] if timed else next(iter(own), None)
    if target.contender in (exact := {row.case.contender: row for row in rows}):
        return exact[target.contender]
    return _variant(rows, target.contender)


def _variant(rows: Iterable[Row], contender: str) -> Row | None:
    """The one variant of a contender among the rows, where there is one: a deformable operator's spread."""
    found = [row for row in rows if row.case.named == contender]
    return found[0] if len(found) == 1 else None


def _median(standing: Standing, row: Row) -> float | None:
    latency = row.timing(standing.methods[0]).latency if standing.methods else None
    return latency.median_seconds if latency else None


def _verdict(target: Target, value: Value) -> Met:
    _, low, high = value
    if target.at_least is not None:
        return "met" if low >= target.at_least else "missed" if high < target.at_least else "undecided"
    if target.at_most is not None:
        return "met" if high <= target.at_most else "missed" if low > target.at_most else "undecided"
    return "undecided"


def _speed_up(run: Run, standing: Standing, row: Row, against: str) -> Value | str:
    found = standing.between(row.case.contender, against)
    if isinstance(found, str):
        return found
    return 1 / found.value, 1 / found.high, 1 / found.low if found.low else float("inf")


def _slow_down(run: Run, standing: Standing, row: Row, against: str) -> Value | str:
    found = standing.between(row.case.contender, against)
    return found if isinstance(found, str) else (found.value, found.low, found.high)


def _over_the_limit(run: Run, standing: Standing, row: Row, against: str) -> Value | str:
    counts = row.record.counts if row.record else None
    return over_least_time(roofline(run.yardsticks, row.case, counts), standing.sampled(row))


def _memory(run: Run, standing: Standing, row: Row, against: str) -> Value | str:
    held, peak, least = (of.of(row.record) for of in (HELD, PEAK, MIN_BYTES))
    if held is None or peak is None or least is None:
        return "memory was not measured"
    if not least:
        return "no closed form"
    value = (held + peak) / least
    return value, value, value


def _first_call(kind: Literal["cold_seconds", "cached_seconds"]) -> Callable[..., Value | str]:
    def value(run: Run, standing: Standing, row: Row, against: str) -> Value | str:
        for found in run.first_calls:
            if found.case == row.case.id:
                samples: tuple[float, ...] = getattr(found, kind)
                if not samples:
                    return found.note or "no sample"
                return statistics.median(samples), min(samples), max(samples)
        return "the first call was not measured"

    return value


_VALUES: Mapping[Quantity, Callable[[Run, Standing, Row, str], Value | str]] = {
    "speed-up": _speed_up,
    "slow-down": _slow_down,
    "roofline": _over_the_limit,
    "memory": _memory,
    "first-call-cold": _first_call("cold_seconds"),
    "first-call-cached": _first_call("cached_seconds"),
}
