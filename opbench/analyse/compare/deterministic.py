"""The deterministic channel: figures that are the same on every machine, so that any difference is a change."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

import msgspec

from opbench.analyse.compare.nouns import Change, Margins, Quantity, QuantityName, Row
from opbench.schema import Counts, Memory, Record

# What has a better and a worse direction; any other change says that the case is no longer the same computation.
_LESS_IS_BETTER: frozenset[QuantityName] = frozenset({"peak", "saved"})

Figure = int | dict[str, int] | None


def exact_row(
    base: Record,
    head: Record,
    narrowed: Collection[str],
    allow: Collection[str],
) -> Row:
    """One case's row. `narrowed` are quantities that don't survive a difference of the runs, said once for all rows."""
    margins = Margins(margin(base), margin(head))
    if base.case != head.case:
        reason = f"everything: its definition differs ({_case_difference(base, head)})"
        return Row(head.case, left_out=(reason,), worst_ratio=margins)
    outcome = _outcome(base, head, allow)
    if base.outcome != "ok" or head.outcome != "ok":
        reason = f"all but the outcome: {base.outcome} in base, {head.outcome} in head"
        return Row(head.case, quantities=outcome, left_out=(reason,), worst_ratio=margins)
    left_out: list[str] = []
    quantities = list(outcome)
    for name, before, after, why_not in _figures(base, head):
        if name in narrowed:
            continue
        if why_not or before is None or after is None:
            left_out.append(f"{name}: {why_not or _unrecorded(before, after)}")
        elif before != after:
            quantities.append(_quantity(name, before, after, allow))
    return Row(head.case, tuple(quantities), left_out=tuple(left_out), worst_ratio=margins)


def margin(record: Record) -> float | None:
    """The larger |error| / bound of the verdicts before and after timing; None where there is neither."""
    found = [verdict.worst_ratio for verdict in (record.verdict, record.final_verdict) if verdict is not None]
    # NaN compares as neither larger nor smaller; it is the worst of all.
    return max(found, key=lambda ratio: (math.isnan(ratio), ratio), default=None)


def _case_difference(base: Record, head: Record) -> str:
    ours, theirs = msgspec.structs.asdict(base.case), msgspec.structs.asdict(head.case)
    return ", ".join(f"{key} {value} -> {theirs[key]}" for key, value in ours.items() if value != theirs[key])


def _outcome(base: Record, head: Record, allow: Collection[str]) -> tuple[Quantity, ...]:
    if base.outcome == head.outcome:
        return ()
    change: Change = "regressed" if base.outcome == "ok" else "improved" if head.outcome == "ok" else "changed"
    return (Quantity("outcome", base.outcome, head.outcome, change, "outcome" in allow),)


def _figures(base: Record, head: Record) -> Iterator[tuple[QuantityName, Figure, Figure, str]]:
    """(name, before, after, why they are no pair) of every deterministic quantity of an `ok` case."""
    ours, theirs = base.counts, head.counts
    counted: tuple[tuple[QuantityName, str], ...] = (
        ("params", "params"), ("macs", "macs"), ("min-bytes", "min_bytes"), ("operators", "dispatched"),
    )  # fmt: skip
    for name, attribute in counted:
        yield name, _attribute(ours, attribute), _attribute(theirs, attribute), ""
    held, holds = base.memory, head.memory
    why_not = ""
    if held and holds and held.method != holds.method:
        why_not = f"measured by {held.method} in base and by {holds.method} in head"
    yield "peak", _attribute(held, "peak_bytes"), _attribute(holds, "peak_bytes"), why_not
    yield "saved", _attribute(held, "saved_bytes"), _attribute(holds, "saved_bytes"), why_not


def _attribute(of: Counts | Memory | None, name: str) -> Figure:
    value: Figure = getattr(of, name, None)
    return value


def _unrecorded(before: Figure, after: Figure) -> str:
    if before is None and after is None:
        return "recorded in neither run"
    return f"not recorded in {'base' if before is None else 'head'}"


def _quantity(name: QuantityName, before: Figure, after: Figure, allow: Collection[str]) -> Quantity:
    change: Change = "changed"
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        moved = [key for key in sorted({*before, *after}) if before.get(key, 0) != after.get(key, 0)]
        old, new = (", ".join(f"{key} x{side.get(key, 0)}" for key in moved) for side in (before, after))
        return Quantity(name, old, new, change, name in allow)
    assert isinstance(before, int)
    assert isinstance(after, int)
    if name in _LESS_IS_BETTER:
        change = "regressed" if after > before else "improved"
    return Quantity(name, f"{before:,}", f"{after:,}", change, name in allow)
