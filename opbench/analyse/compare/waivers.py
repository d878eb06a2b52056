"""Waivers: changes that a team has agreed to, in a file of theirs: which cases, which quantity, why, and until when.

    [[allow]]
    case = "upsample2x/*/carafe[cpu]/*"     # * is any text, ? any letter
    quantity = "peak"                       # "time", or a deterministic quantity
    reason = "the new kernel keeps a copy of the mask"
    until = 2027-01-31

A gate that can only be opened for everything is opened for everything. A line whose day has passed is an error, so
that nothing stays allowed because nobody looked.
"""

from __future__ import annotations

import datetime
import fnmatch
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from opbench.analyse.compare.nouns import Comparison
from opbench.schema import OpbenchError

NAME = "opbench-allow.toml"
TIME = "time"
_KEYS = ("case", "quantity", "reason", "until")


class Waiver(NamedTuple):
    """One line of the file."""

    case: str
    quantity: str
    reason: str
    until: datetime.date

    def covers(self, case: str, quantity: str) -> bool:
        """Whether it allows a change of this quantity in this case."""
        return quantity == self.quantity and fnmatch.fnmatchcase(case, self.case.replace("[", "[[]"))

    def said(self) -> str:
        """The line in a comparison that used it."""
        return f"{self.quantity} of {self.case} was allowed to change until {self.until}: {self.reason}"


def load(path: Path, known: Collection[str], today: datetime.date | None = None) -> tuple[Waiver, ...]:
    """The waivers in a file. Raises `OpbenchError` for what can't be read, a quantity not in `known`, a day passed."""
    try:
        held = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OpbenchError(f"{path}: can't be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OpbenchError(f"{path}: not TOML: {error}") from None
    others = held.keys() - {"allow"}
    entries = held.get("allow", [])
    if others or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise OpbenchError(f"{path}: expected [[allow]] tables alone, got {', '.join(sorted(others)) or 'allow = ...'}")
    now = today or datetime.datetime.now(datetime.UTC).date()
    return tuple(_waiver(f"{path}: allow {at}", entry, known, now) for at, entry in enumerate(entries, start=1))


def _waiver(where: str, entry: Mapping[str, Any], known: Collection[str], today: datetime.date) -> Waiver:
    for key in _KEYS:
        if key not in entry:
            raise OpbenchError(f"{where}: {key} is missing (expected {', '.join(_KEYS)})")
    for key in entry:
        if key not in _KEYS:
            raise OpbenchError(f"{where}: unknown key {key!r} (expected {', '.join(_KEYS)})")
    case, quantity, reason, until = (entry[key] for key in _KEYS)
    for key, value in (("case", case), ("quantity", quantity), ("reason", reason)):
        if not isinstance(value, str) or not value.strip():
            raise OpbenchError(f"{where}: {key} = {value!r}, expected text")
    if quantity != TIME and quantity not in known:
        raise OpbenchError(f"{where}: unknown quantity {quantity!r} (expected {', '.join((TIME, *known))})")
    if isinstance(until, datetime.datetime) or not isinstance(until, datetime.date):
        raise OpbenchError(f"{where}: until = {until!r}, expected a day such as 2027-01-31, without quotes")
    if until < today:
        raise OpbenchError(
            f"{where}: allowed {quantity} of {case} until {until}, which has passed ({reason}); "
            "take the line out, or agree on another day"
        )
    return Waiver(case, quantity, reason, until)


def applied(comparison: Comparison, waivers: Sequence[Waiver]) -> Comparison:
    """The comparison with what the waivers cover allowed, and a sentence for each waiver: used, or needed no more."""
    used: list[Waiver] = []

    def covered(case: str, quantity: str) -> bool:
        found = [waiver for waiver in waivers if waiver.covers(case, quantity)]
        used.extend(found)
        return bool(found)

    rows = []
    for row in comparison.rows:
        quantities = [
            replace(one, allowed=True) if one.change != "improved" and covered(row.case.id, one.name) else one
            for one in row.quantities
        ]
        times = [
            replace(one, allowed=True) if one.decision == "regressed" and covered(row.case.id, TIME) else one
            for one in row.times
        ]
        rows.append(replace(row, quantities=tuple(quantities), times=tuple(times)))
    said = [waiver.said() for waiver in waivers if waiver in used]
    return replace(comparison, rows=tuple(rows), notes=(*comparison.notes, *said, *unused(waivers, used)))


def unused(waivers: Collection[Waiver], used: Collection[Waiver]) -> Iterator[str]:
    """A sentence for each that covered no change: it can go."""
    for waiver in waivers:
        if waiver not in used:
            yield f"{waiver.quantity} of {waiver.case} is allowed to change until {waiver.until}, and nothing did"
