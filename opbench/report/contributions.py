"""What was found of a contributed run, in lines: signs first, then what was derived again, then what wasn't."""

from __future__ import annotations

from collections.abc import Iterator

from opbench.contributed.nouns import Verification

# Signs of one kind that are told one by one.
_TOLD = 10


def lines(found: Verification, *, signs_only: bool = False) -> Iterator[str]:
    """The verification for a person who decides about it."""
    by_kind: dict[str, int] = {}
    for sign in found.signs:
        by_kind[sign.kind] = by_kind.get(sign.kind, 0) + 1
        if by_kind[sign.kind] <= _TOLD:
            yield f"SIGN {sign.kind}: {sign.where}: {sign.sentence}"
    for kind, count in by_kind.items():
        if count > _TOLD:
            yield f"SIGN {kind}: and {count - _TOLD} more"
    if signs_only:
        return
    yield from (f"checked: {one.what} ({one.count:,})" for one in found.checked)
    yield from (
        f"not checked: {one.what}{f' ({one.count:,})' if one.count > 1 else ''}: {one.why}" for one in found.unchecked
    )
    where = f"{found.suite} of {found.started} on {found.machine}"
    yield f"{found.status}: {where}" + (f", contributed by {found.contributor}" if found.contributor else "")
