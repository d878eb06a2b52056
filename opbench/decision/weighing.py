"""A run over the places of a network, weighed: what each contender costs in all of them, and which beat which.

Everything comes from the run document. A latency over all places is the sum over calls; its interval has the sums of
the ends of each place's, as if all of them erred the same way: never too narrow, however visits move them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec.structs import replace

from opbench import registry
from opbench.analyse.quality import quality, sentence
from opbench.analyse.standings import Row, Standing, standings
from opbench.decision.nouns import (
    CostStanding,
    NetworkDecision,
    OutOfReach,
    PlacesOfShape,
    PricedContender,
    PricedSlot,
    Versus,
)
from opbench.decision.places import FoundPlaces
from opbench.schema import Record, Run
from opbench.statistics.ratios import Method, Ratio

# From the one that says least: of several places the sum says no more than the weakest.
WEAKEST: tuple[Method, ...] = ("one-round", "range", "one-visit", "order-statistics", "process-medians")


def weigh(
    run: Run,
    found: FoundPlaces,
    *,
    target: str,
    network: str,
    input_shape: tuple[int, ...],
    command: str,
    dtype: str,
    device: str,
    mode: str,
    spread: float,
    missing: Mapping[str, Sequence[OutOfReach]],
) -> NetworkDecision:
    """The answer for a network from the run over its places."""
    held = {(one.case.task, one.case.workload): one for one in standings(run)}
    slots = []
    for task in dict.fromkeys(place.task for place in found.places):
        places = [place for place in found.places if place.task == task]
        panels = [(place, held.get((task, place.workload))) for place in places]
        skipped = (*missing.get(task, ()), *_skipped(run, task))
        slots.append(_slot(task, [(place, panel) for place, panel in panels if panel is not None], places, skipped))
    return NetworkDecision(
        target=target,
        network=network,
        input_shape=input_shape,
        dtype=dtype,
        device=device,
        mode=mode,
        spread=spread,
        threads=run.environment.threads,
        machine=run.environment.gpu if device == "cuda" and run.environment.gpu else run.environment.cpu,
        started=run.started,
        command=command,
        quality=sentence(quality(run)),
        slots=tuple(slots),
        left_out=found.left_out,
    )


def _skipped(run: Run, task: str) -> Iterable[OutOfReach]:
    """What was planned away, once for each contender and reason."""
    own = [one for one in run.skipped if one.case.startswith(f"{task}/")]
    return tuple(dict.fromkeys(OutOfReach(one.contender, one.reason) for one in own))


Panels = Sequence[tuple[PlacesOfShape, Standing]]


def _slot(task: str, panels: Panels, places: Sequence[PlacesOfShape], skipped: Iterable[OutOfReach]) -> PricedSlot:
    baseline = registry.tasks()[task].baseline
    names = dict.fromkeys(row.case.contender for _, panel in panels for row in panel.rows)
    priced = [_priced(name, baseline, panels, len(places)) for name in names]
    timed = [one for one in priced if one.seconds is not None]
    against = {
        (one.contender, other.contender): _over(one.contender, other.contender, panels)
        for one in timed
        for other in timed
        if one is not other
    }
    judged = [_judged(one, timed, against) if one in timed else one for one in priced]
    judged.sort(key=lambda one: (one.contender != baseline, one.seconds is None, one.seconds or 0.0))
    return PricedSlot(task, baseline, tuple(places), tuple(judged), tuple(skipped))


def _priced(name: str, baseline: str, panels: Panels, places: int) -> PricedContender:
    """Of one contender, without what its rivals say of it."""
    rows = [(place, panel, panel.row(name)) for place, panel in panels]
    present = [(place, panel, row) for place, panel, row in rows if row is not None]
    failed = next((row for _, _, row in present if row.outcome != "ok"), None)
    row = failed or present[0][2]
    outcome, message = row.outcome, row.message
    if failed is None and len(present) < places:
        outcome, message = "unsupported", f"it fits {len(present)} of the {places} shapes"
    one = PricedContender(
        contender=name,
        operator=row.case.operator,
        implementation=row.case.implementation,
        outcome=outcome,
        standing="unpriced",
        message=message,
    )
    records = [(place, row.record) for place, _, row in present if row.record is not None]
    if len(records) < places:
        return one
    ok = outcome == "ok"
    return replace(
        one,
        # What is counted and allocated doesn't depend on who else had the machine.
        params=_of_all(sum, (place.modules * r.counts.params if r.counts else None for place, r in records)),
        macs=_of_all(sum, (place.calls * r.counts.macs if r.counts else None for place, r in records)),
        traffic_bytes=_of_all(sum, map(_traffic, *zip(*records, strict=True))),
        peak_bytes=_of_all(max, (r.memory.peak_bytes if r.memory else None for _, r in records)),
        saved_bytes=_of_all(sum, map(_saved, *zip(*records, strict=True))),
        seconds=_seconds(name, panels) if ok else None,
        ratio=_over(name, baseline, panels) if ok and name != baseline else None,
    )


def _of_all(total: Callable[[list[int]], int], values: Iterable[int | None]) -> int | None:
    """None where any is."""
    found = list(values)
    known = [value for value in found if value is not None]
    return total(known) if len(known) == len(found) else None


def _traffic(place: PlacesOfShape, record: Record) -> int | None:
    moved = record.counts.traffic_bytes if record.counts else None
    return None if moved is None else place.calls * moved


def _saved(place: PlacesOfShape, record: Record) -> int | None:
    saved = record.memory.saved_bytes if record.memory else None
    return None if saved is None else place.calls * saved


def _median(row: Row | None, panel: Standing) -> float | None:
    latency = row.timing(panel.methods[0]).latency if row and panel.methods else None
    return latency.median_seconds if latency else None


def _seconds(name: str, panels: Panels) -> float | None:
    """In all calls together."""
    found = [(place.calls, _median(panel.row(name), panel)) for place, panel in panels]
    return None if any(s is None for _, s in found) else sum(calls * s for calls, s in found if s is not None)


def _over(name: str, other: str, panels: Panels) -> Ratio | None:
    """The latency of one contender in all calls together over another's; None where a place doesn't tell."""
    parts: list[tuple[float, Ratio]] = []
    for place, panel in panels:
        theirs, ratio = _median(panel.row(other), panel), panel.between(name, other)
        if theirs is None or isinstance(ratio, str):
            return None
        parts.append((place.calls * theirs, ratio))
    whole = sum(seconds for seconds, _ in parts)
    value, low, high = (
        sum(seconds * end for seconds, end in zip((seconds for seconds, _ in parts), ends, strict=True)) / whole
        for ends in zip(*((ratio.value, ratio.low, ratio.high) for _, ratio in parts), strict=True)
    )
    rounds, processes = (min(getattr(ratio, name) for _, ratio in parts) for name in ("rounds", "processes"))
    method = min((ratio.method for _, ratio in parts), key=WEAKEST.index)
    return Ratio(value, max(low, 0.0), high, rounds, processes, method)


def _judged(
    one: PricedContender, timed: Sequence[PricedContender], against: Mapping[tuple[str, str], Ratio | None]
) -> PricedContender:
    """With its ranks, and with those that beat it or may."""
    held = [
        (other, Versus(other.contender, ratio))
        for other in timed
        if other is not one and (ratio := against[one.contender, other.contender]) is not None
    ]
    ahead = sum(versus.slower for _, versus in held)
    behind = sum(versus.faster for _, versus in held)
    rivals = [(other, versus) for other, versus in held if _rival(one, other)]
    beaten = tuple(versus for _, versus in rivals if versus.slower)
    perhaps = tuple(versus for _, versus in rivals if not versus.slower and not versus.faster)
    standing: CostStanding = "dominated" if beaten else "undecided" if perhaps else "front"
    if not one.params:
        standing = "fixed"
    return replace(
        one,
        standing=standing,
        ranks=(1 + ahead, len(timed) - behind),
        beaten_by=tuple(sorted(beaten, key=lambda versus: -versus.ratio.value)),
        perhaps=perhaps,
    )


def _rival(one: PricedContender, other: PricedContender) -> bool:
    """Whether `other` would beat `one` by being faster: it learns, too, with no more parameters.

    What has no parameters learns nothing: faster and smaller than everything, it would end every comparison. Another
    implementation of the same operator is one, whatever it learns.
    """
    if one.params is None or other.params is None:
        return False
    return one.operator == other.operator or (0 < other.params <= one.params)
