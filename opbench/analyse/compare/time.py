"""The time channel: how each case's ratio changed from one run to the other, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from opbench.analyse.compare.nouns import ComparedCase, Time
from opbench.schema import Latency, Record, Run
from opbench.statistics.change import Allowance, Decision, Evidence, decide, holm, p_value, shifts
from opbench.statistics.layout import LayoutFloor, floor_of
from opbench.statistics.ratios import paired_log_ratios, quartiles, saturating_exp
from opbench.statistics.shifts import Shift, median_shift, shift


class Pair(msgspec.Struct, frozen=True):
    """One timing method of one row. Without evidence, `why_not` says what is missing; `absolute` is head / base."""

    row: int
    method: str
    absolute: float = math.nan
    evidence: Evidence | None = None
    same_samples: int = 0
    why_not: str = ""


class _Index(msgspec.Struct, frozen=True):
    """A run's records by case, and the baseline's record by panel."""

    records: dict[str, Record]
    baselines: dict[str, Record]

    @classmethod
    def of(cls, run: Run) -> _Index:
        records = {record.case.id: record for record in run.records}
        cases = {panel.id: case.id for panel in run.panels for case in panel.cases if case.contender == panel.baseline}
        return cls(records, {panel: records[name] for panel, name in cases.items() if name in records})


def timed_rows(
    rows: Sequence[ComparedCase],
    base: Run,
    head: Run,
    *,
    paired: bool,
    allowance: Allowance,
    minimum_effect: float,
    floors: Mapping[str, LayoutFloor],
) -> list[ComparedCase]:
    """The rows with their times; all rows are corrected together. `floors`: how far processes of one code differ."""
    ours, theirs = _Index.of(base), _Index.of(head)
    pairs = [pair for index, row in enumerate(rows) for pair in _pairs(index, row, ours, theirs, paired=paired)]
    minimum = math.log1p(minimum_effect)
    judged = [(pair, pair.evidence) for pair in pairs if pair.evidence]
    found = shifts([evidence for _, evidence in judged], allowance)
    leasts = [max(minimum, _floor(theirs.records[rows[pair.row].case.id], one, floors)) for pair, one in judged]
    adjusted = holm([p_value(one, least) for one, least in zip(found, leasts, strict=True)])
    times: dict[int, list[Time]] = {}
    for pair in pairs:
        if pair.same_samples:
            # A document against itself: not two measurements that agree but one.
            processes = (pair.same_samples, pair.same_samples)
            times.setdefault(pair.row, []).append(Time(pair.method, 1.0, 1.0, 1.0, 1.0, "same", 1.0, processes))
    for (pair, evidence), one, p, least in zip(judged, found, adjusted, leasts, strict=True):
        low, high = one.interval()
        times.setdefault(pair.row, []).append(
            Time(
                method=pair.method,
                ratio=saturating_exp(one.value),
                low=saturating_exp(low),
                high=saturating_exp(high),
                p=p,
                decision=_decided(one, p, least, minimum),
                absolute=pair.absolute,
                processes=(len(evidence.base or evidence.head), len(evidence.head)),
                least=math.expm1(least),
            )
        )
    why: dict[int, list[str]] = {}
    for pair in pairs:
        if pair.why_not:
            why.setdefault(pair.row, []).append(f"time ({pair.method}): {pair.why_not}")
    return [
        msgspec.structs.replace(row, times=tuple(times.get(i, ())), left_out=(*row.left_out, *why.get(i, ())))
        for i, row in enumerate(rows)
    ]


def _decided(found: Shift, p: float, least: float, minimum: float) -> Decision:
    """A change must exceed the layout floor too; one within it is not the same for that, only not known."""
    if decide(found, p, minimum) == "same":
        return "same"
    decision = decide(found, p, least)
    return "undecided" if decision == "same" else decision


def _floor(record: Record, evidence: Evidence, floors: Mapping[str, LayoutFloor]) -> float:
    """The log-ratio by which this row's processes differ though nothing changed; a single process has an allowance."""
    floor = floor_of(floors, record.counts.dispatched if record.counts else None)
    return floor.least(len(evidence.head), paired=evidence.paired) if floor and evidence.freedom else 0.0


def _pairs(index: int, row: ComparedCase, base: _Index, head: _Index, *, paired: bool) -> Iterator[Pair]:
    """What there is to judge one row by, for every timing method."""
    name, panel = row.case.id, row.case.panel_id
    before, after = base.records[name], head.records[name]
    if before.case != after.case or before.outcome != "ok" or after.outcome != "ok":
        return
    baseline, baseline_now = base.baselines.get(panel), head.baselines.get(panel)
    for latency in after.latencies:
        earlier = _by_method(before, latency.method)
        if earlier is None:
            yield Pair(index, latency.method, why_not="not timed by this method in base")
            continue
        absolute = _absolute(earlier, latency)
        if earlier.samples_seconds == latency.samples_seconds:
            yield Pair(index, latency.method, absolute, same_samples=len(latency.samples_seconds))
        elif paired:
            # The same work on both sides, unless it changed: the random order makes them exchangeable.
            yield _with(Pair(index, latency.method, absolute), (), _shifts(latency, earlier, shift), paired=True)
        elif earlier.phase and latency.phase and earlier.phase != latency.phase:
            phases = f"base is of the {earlier.phase} phase of its machine, head of the {latency.phase} one"
            yield Pair(index, latency.method, absolute, why_not=f"{phases}: each bounds contenders by something else")
        elif not baseline or not baseline_now or baseline.case != baseline_now.case:
            yield Pair(index, latency.method, absolute, why_not="the panel's baseline is not the same in both runs")
        elif name != baseline.case.id:  # the baseline's own ratio is 1 by definition
            against, against_now = _by_method(baseline, latency.method), _by_method(baseline_now, latency.method)
            if against is None or against_now is None:
                yield Pair(index, latency.method, absolute, why_not="the baseline has no time to take the ratio to")
            else:
                sides = _shifts(earlier, against, median_shift), _shifts(latency, against_now, median_shift)
                yield _with(Pair(index, latency.method, absolute), *sides, paired=False)


def _with(pair: Pair, base: tuple[Shift, ...], head: tuple[Shift, ...], *, paired: bool) -> Pair:
    if not head or not (base or paired):
        return msgspec.structs.replace(pair, why_not="fewer than two usable rounds")
    return msgspec.structs.replace(pair, evidence=Evidence(base, head))


def _by_method(record: Record, method: str) -> Latency | None:
    if record.outcome != "ok":
        return None
    return next((latency for latency in record.latencies if latency.method == method), None)


def _shifts(contender: Latency, baseline: Latency, locate: Callable[[Sequence[float]], Shift]) -> tuple[Shift, ...]:
    """One per process that has at least two usable rounds."""
    return tuple(locate(process) for process in paired_log_ratios(contender, baseline) if len(process) > 1)


def _absolute(base: Latency, head: Latency) -> float:
    before, after = quartiles(base), quartiles(head)
    return after.median_seconds / before.median_seconds if before and after else math.nan
