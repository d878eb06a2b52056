"""What a run's journal holds, one entry a line: eight digits of CRC-32, a space, JSON.

What a kill or a power cut leaves of the last line has no end of line and is passed over; any other damage shows in the
CRC and is refused, because half a measurement is worse than none. A panel is one entry: its contenders are timed in
the same rounds, and one of them without the others is no measurement. A contender that brought its worker down is an
entry of its own, so that resuming doesn't wait for the same hang again.
"""

from __future__ import annotations

import os
import socket
import zlib
from pathlib import Path
from typing import Any

import msgspec

from opbench.documents import decode, encode
from opbench.schema import Environment, FirstCall, OpbenchError, ProbedPanel, Record, Settings, Yardstick

NAME = "journal.jsonl"
VERSION = 1


class Header(msgspec.Struct, frozen=True, tag=True):
    """What is measured. `panels` and `extensions` map names to digests of their content."""

    settings: Settings
    panels: dict[str, str]
    extensions: dict[str, str]
    threads: int | None
    started: str
    version: int = VERSION


class Session(msgspec.Struct, frozen=True, tag=True):
    """A process that wrote from here on."""

    pid: int
    host: str
    started: str
    command: str


class Surroundings(msgspec.Struct, frozen=True, tag=True):
    """Where it is measured; `node` is the machine's name in a fleet, "" where there is one machine."""

    environment: Environment
    yardsticks: tuple[Yardstick, ...]
    called_seconds: float
    wall_seconds: float
    node: str = ""


class Lost(msgspec.Struct, frozen=True, tag=True):
    """A contender that brought down its worker; the rest of its panel is retried without it."""

    replica: int
    panel: str
    record: Record


class PanelFinished(msgspec.Struct, frozen=True, tag="Finished"):
    """All records of a panel in one process, on a `node` of a fleet. `wall_seconds` includes lost attempts."""

    replica: int
    panel: str
    records: tuple[Record, ...]
    called_seconds: float
    wall_seconds: float
    probes: ProbedPanel | None = None
    node: str = ""


class FirstCalled(msgspec.Struct, frozen=True, tag=True):
    """The first call of a case, in processes of its own."""

    first_call: FirstCall
    called_seconds: float
    wall_seconds: float


class Given(msgspec.Struct, frozen=True, tag=True):
    """A worker was given these cases of a panel. Where a new session follows, the run was killed meanwhile."""

    replica: int
    panel: str
    cases: tuple[str, ...]


class NodeLost(msgspec.Struct, frozen=True, tag=True):
    """A node of a fleet went while a worker of it had these cases of a panel; `why` as the cluster says it."""

    replica: int
    panel: str
    cases: tuple[str, ...]
    node: str
    why: str


class Stopped(msgspec.Struct, frozen=True, tag=True):
    """The run ended itself while a worker had a panel: by Ctrl-C, or by an error."""


Entry = Header | Session | Surroundings | Lost | PanelFinished | FirstCalled | Given | NodeLost | Stopped


def session(command: str, started: str) -> Session:
    """The session of this process."""
    return Session(os.getpid(), socket.gethostname(), started, command)


def read(path: Path) -> tuple[list[Entry], int]:
    """The entries of a journal, and how many bytes they take: what follows is the torn end of a last line.

    Raises OpbenchError, with the line, for any other damage.
    """
    return read_as(path, Entry, Header)


def read_as(path: Path, wanted: Any, first: type) -> tuple[list[Any], int]:
    """The same of a journal whose entries are of the `wanted` types, and which begins with one of type `first`."""
    end = 0
    entries: list[Any] = []
    with path.open("rb") as file:  # line by line: half a gigabyte of them is not held beside what it says
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            end += len(line)
            try:
                entries.append(entry_of(line[:-1], wanted))
            except ValueError as error:
                raise OpbenchError(
                    f"{path}: line {number} is damaged or was not written by this opbench ({error}); nothing after it "
                    "can be trusted: delete the file to start anew"
                ) from None
    if entries and not isinstance(entries[0], first):
        raise OpbenchError(f"{path}: does not begin as a journal does; delete the file to start anew")
    return entries, end


def written(entry: msgspec.Struct) -> bytes:
    """The entry as its line."""
    text = encode(entry)
    return f"{zlib.crc32(text):08x} ".encode() + text + b"\n"


def entry_of(line: bytes, wanted: Any = Entry) -> Any:
    """The entry on a line, as one of the `wanted` types; ValueError says what is wrong with it."""
    crc, _, text = line.partition(b" ")
    if len(crc) != 8 or not text:
        raise ValueError("no checksum")
    if f"{zlib.crc32(text):08x}".encode() != crc:
        raise ValueError("the checksum is wrong")
    return decode(text, wanted)  # msgspec's errors are ValueErrors
