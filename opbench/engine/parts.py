"""The parts of a run at an address: their names, what they are of, and which are there.

A part is an entry of the run's journal, checksum and all. Its name tells which panel and visit (or machine, or case)
it is of and ends with the hash of its content, so that putting it there twice is putting it there once, a part that was
cut short is none, and nobody has to write before anybody else. Of a visit that two writers have measured, every reader
takes the part whose name comes first. What an index says can be had from the parts.
"""

from __future__ import annotations

import functools
import hashlib
import operator
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple, get_args

import msgspec

from opbench.documents import encode
from opbench.engine.entries import Entry, FirstCalled, Header, Lost, PanelFinished, Surroundings, entry_of
from opbench.schema import Plan
from opbench.storage.objects import ObjectStore

PARTS, INDEX = "parts", "index"
# A part of another version's layout is not read: it has another ending.
SUFFIX = ".part"
_NAME = re.compile(r"(?P<kind>[a-z]+)-(?P<key>[0-9a-z.-]+)-(?P<hash>[0-9a-f]{16})\.part")
# Kinds of the entries of a journal, in its order.
_KINDS = ("header", "where", "lost", "panel", "first")


class StoredPart(NamedTuple):
    """A part by its name: the folder of its node type ("" of one machine), what it is of, and the hash of its line."""

    type: str
    kind: str
    key: str
    name: str


class StoredVisits:
    """The lines of finished panels of one node type, each taken once."""

    def __init__(self, lines: dict[StoredPart, bytes], chosen: dict[tuple[str, str], StoredPart]) -> None:
        self._lines, self._chosen = lines, chosen

    def take(self, replica: int, panel: str) -> PanelFinished | None:
        """The visit of a panel, whose line is dropped; None where it is not there."""
        part = self._chosen.pop(("panel", _visit_key(replica, panel)), None)
        if part is None:
            return None
        entry = entry_of(self._lines.pop(part).rstrip(b"\n"))
        assert isinstance(entry, PanelFinished)
        return entry


class StoredParts(NamedTuple):
    """What was found below an address: the lines of parts by name, and a sentence for each that isn't one."""

    lines: dict[StoredPart, bytes]
    problems: tuple[str, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """The node types that parts are of."""
        return tuple(dict.fromkeys(part.type for part in self.lines))

    def entries(self, type_: str = "", *kinds: str) -> list[Entry]:
        """One journal's entries, or those of some kinds: of what has several parts, the first by name."""
        return [entry_of(line.rstrip(b"\n")) for _, line in self.journal(type_, *kinds)]

    def journal(self, type_: str = "", *kinds: str) -> Iterator[tuple[StoredPart, bytes]]:
        """The same as lines, in the order that a journal has them."""
        chosen = self._chosen(type_, kinds or _KINDS).values()
        for part in sorted(chosen, key=lambda part: (_KINDS.index(part.kind), part.name)):
            yield part, self.lines[part]

    def visits(self, type_: str = "") -> StoredVisits:
        """The finished panels, to be taken one by one: together they are most of what the parts hold."""
        return StoredVisits(self.lines, self._chosen(type_, ("panel",)))

    def plan(self, type_: str = "") -> Plan | None:
        """The plan of a node type's run; None where no writer has put one there."""
        for part in self._chosen(type_, ("plan",)).values():
            return msgspec.json.decode(self.lines[part].partition(b" ")[2], type=Plan)
        return None

    def _chosen(self, type_: str, kinds: Sequence[str]) -> dict[tuple[str, str], StoredPart]:
        """The part that every reader takes, by what it is of."""
        chosen: dict[tuple[str, str], StoredPart] = {}
        for part in self.lines:
            if part.type == type_ and part.kind in kinds:
                key = (part.kind, part.key)
                if key not in chosen or part.name < chosen[key].name:
                    chosen[key] = part
        return chosen


class _NamedPanel(msgspec.Struct, frozen=True, tag="Finished"):
    """Of a finished panel, what its part is called by: its records, which are most of a journal, are passed over."""

    replica: int
    panel: str


# The types of entries, with `_NamedPanel` in place of `PanelFinished`.
_NAMED: Any = functools.reduce(operator.or_, (_NamedPanel if one is PanelFinished else one for one in get_args(Entry)))


def named(line: bytes) -> tuple[str, str] | None:
    """What the part of a journal's line is called by; see `kind_and_key`."""
    return kind_and_key(entry_of(line, _NAMED))


def kind_and_key(entry: Entry | _NamedPanel) -> tuple[str, str] | None:
    """What a part of an entry is called by; None for what only the journal of one machine is asked for."""
    match entry:
        case Header():
            return "header", "run"
        case Surroundings():
            return "where", _digest(encode(entry.environment) + entry.node.encode())
        case Lost():
            return "lost", f"{_digest(entry.record.case.id.encode())}.{entry.replica}"
        case PanelFinished() | _NamedPanel():
            return "panel", _visit_key(entry.replica, entry.panel)
        case FirstCalled():
            return "first", _digest(entry.first_call.case.encode())
        case _:
            return None


def _visit_key(replica: int, panel: str) -> str:
    return f"{_digest(panel.encode())}.{replica}"


def part_name(type_: str, kind: str, key: str, line: bytes) -> str:
    """The name of a part's object."""
    return "/".join(filter(None, (PARTS, type_, f"{kind}-{key}-{_digest(line)}{SUFFIX}")))


def parsed(name: str) -> StoredPart | None:
    """The part that an object's name tells of; None for another object's."""
    path = PurePosixPath(name)
    found = _NAME.fullmatch(path.name)
    if found is None or path.parts[0] != PARTS or len(path.parts) > 3:
        return None
    return StoredPart(path.parts[1] if len(path.parts) == 3 else "", found["kind"], found["key"], name)


def collected(store: ObjectStore) -> StoredParts:
    """Every part below an address: those that are listed, and those that an index names."""
    names = set(store.names(PARTS))
    problems: list[str] = []
    for index in store.names(INDEX):
        data = store.read(index)
        try:
            names |= set(msgspec.json.decode(data or b"[]", type=list[str]))
        except msgspec.MsgspecError:
            problems.append(f"{index}: is damaged and passed over; the parts tell what it told")
    lines: dict[StoredPart, bytes] = {}
    known = {name: part for name in sorted(names) if (part := parsed(name)) is not None}
    problems += [f"{name}: is no part that this opbench reads; passed over" for name in sorted(names - known.keys())]
    for name, data in store.read_all(list(known)):
        part = known[name]
        if data is None:
            problems.append(f"{name}: an index names it, and it isn't there")
        elif not name.endswith(f"{_digest(data)}{SUFFIX}"):
            problems.append(f"{name}: was cut short or changed, and is passed over: what it held is measured again")
        else:
            lines[part] = data
    return StoredParts(lines, tuple(problems))


def reindexed(store: ObjectStore) -> int:
    """Writes an index of all parts that are listed, and says how many: an index holds nothing that parts don't."""
    names = [name for name in store.names(PARTS) if parsed(name) is not None]
    store.write(f"{INDEX}/all.json", msgspec.json.encode(names) + b"\n")
    return len(names)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
