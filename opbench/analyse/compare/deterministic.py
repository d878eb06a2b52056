"""The deterministic channel: figures that are the same on every machine, so that any difference is a change."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

import msgspec

from opbench.analyse.compare.nouns import OPERATORS, OUTCOME, Change, ComparedCase, ExactChange, Margins
from opbench.quantities import exact
from opbench.schema import Record

Figure = float | dict[str, int] | None
# What documents of an early opbench lack throughout, and torch's own runs an artifact: where neither run has it, there
# is nothing to say of it.
_CAME_LATER = ("held", "artifact")
# The machine was busy or hot: nothing is said of the code but that its time isn't known.
_WITHOUT_TIME = ("disturbed", "throttled")


def exact_row(
    base: Record,
    head: Record,
    narrowed: Collection[str],
    allow: Collection[str],
) -> ComparedCase:
    """One case's row. `narrowed` are quantities that don't survive a difference of the runs, said once for all rows."""
    margins = Margins(margin(base), margin(head))
    if base.case != head.case:
        reason = f"everything: its definition differs ({_case_difference(base, head)})"
        return ComparedCase(head.case, left_out=(reason,), worst_ratio=margins)
    outcome = _outcome(base, head, allow)
    ended = f"{base.outcome} in base, {head.outcome} in head"
    if not (_figures_hold(base) and _figures_hold(head)):
        reason = f"all but the outcome: {ended}"
        return ComparedCase(head.case, quantities=outcome, left_out=(reason,), worst_ratio=margins)
    left_out: list[str] = [] if base.outcome == head.outcome == "ok" else [f"time: {ended}"]
    quantities = list(outcome)
    for name, before, after, why_not, less_is_better in _figures(base, head):
        if name in narrowed:
            continue
        if before is None and after is None and name in _CAME_LATER:
            continue
        if why_not or before is None or after is None:
            left_out.append(f"{name}: {why_not or _unrecorded(before, after)}")
        elif before != after:
            quantities.append(_changed(name, before, after, less_is_better, name in allow))
    busy = next((record.message for record in (head, base) if record.outcome == "disturbed"), "")
    return ComparedCase(head.case, tuple(quantities), left_out=tuple(left_out), worst_ratio=margins, disturbed=busy)


def margin(record: Record) -> float | None:
    """The larger |error| / bound of the verdicts before and after timing; None where there is neither."""
    found = [verdict.worst_ratio for verdict in (record.verdict, record.final_verdict) if verdict is not None]
    # NaN compares as neither larger nor smaller; it is the worst of all.
    return max(found, key=lambda ratio: (math.isnan(ratio), ratio), default=None)


def _case_difference(base: Record, head: Record) -> str:
    ours, theirs = msgspec.structs.asdict(base.case), msgspec.structs.asdict(head.case)
    return ", ".join(f"{key} {value} -> {theirs[key]}" for key, value in ours.items() if value != theirs[key])


def _figures_hold(record: Record) -> bool:
    """Whether its counts and memory are those of a right answer: only its time may be missing."""
    return record.outcome == "ok" or (record.outcome in _WITHOUT_TIME and record.counts is not None)


def _outcome(base: Record, head: Record, allow: Collection[str]) -> tuple[ExactChange, ...]:
    """A change of the outcome; a machine that was busy in one of the runs is none."""
    if base.outcome == head.outcome or {base.outcome, head.outcome} <= {"ok", *_WITHOUT_TIME}:
        return ()
    change: Change = "regressed" if base.outcome == "ok" else "improved" if head.outcome == "ok" else "changed"
    return (ExactChange(OUTCOME, base.outcome, head.outcome, change, OUTCOME in allow),)


def _figures(base: Record, head: Record) -> Iterator[tuple[str, Figure, Figure, str, bool]]:
    """(name, before, after, why they are no pair, whether less is better) of every deterministic quantity."""
    held, holds = base.memory, head.memory
    differently = ""
    if held and holds and held.method != holds.method:
        differently = f"measured by {held.method} in base and by {holds.method} in head"
    for of, name in exact("compare"):
        yield name, of.of(base), of.of(head), differently if of.allocated else "", of.less_is_better
    before, after = (record.counts.dispatched if record.counts else None for record in (base, head))
    yield OPERATORS, before, after, "", False


def _unrecorded(before: Figure, after: Figure) -> str:
    if before is None and after is None:
        return "recorded in neither run"
    return f"not recorded in {'base' if before is None else 'head'}"


def _changed(name: str, before: Figure, after: Figure, less_is_better: bool, allowed: bool) -> ExactChange:
    """Without a better and a worse direction a change says that the case is no longer the same computation."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        moved = [key for key in sorted({*before, *after}) if before.get(key, 0) != after.get(key, 0)]
        old, new = (", ".join(f"{key} x{side.get(key, 0)}" for key in moved) for side in (before, after))
        return ExactChange(name, old, new, "changed", allowed)
    assert isinstance(before, int | float)
    assert isinstance(after, int | float)
    change: Change = ("regressed" if after > before else "improved") if less_is_better else "changed"
    return ExactChange(name, f"{before:,}", f"{after:,}", change, allowed)
