"""The journal: what is finished is on disk before the next thing starts; a run killed at any moment goes on from it.

One entry a line: eight digits of CRC-32, a space, JSON. A line is written at once and flushed to the disk. What a
kill or a power cut leaves of the last line has no end of line and is cut off; any other damage shows in the CRC and is
refused, because half a measurement is worse than none. A panel is one entry: its contenders are timed in the same
rounds, and one of them without the others is no measurement. A contender that brought its worker down is an entry of
its own, so that resuming doesn't wait for the same hang again.

The file is locked (flock) while a run writes it. The lock dies with the process, so a stale one can't be; the last
`Session` in the file says who holds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import msgspec

from opbench.documents import decode, encode
from opbench.schema import Environment, FirstCall, OpbenchError, Record, Settings, Yardstick

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
    """Where it is measured."""

    environment: Environment
    yardsticks: tuple[Yardstick, ...]
    called_seconds: float
    wall_seconds: float


class Lost(msgspec.Struct, frozen=True, tag=True):
    """A contender that brought down its worker; the rest of its panel is retried without it."""

    replica: int
    panel: str
    record: Record


class Finished(msgspec.Struct, frozen=True, tag=True):
    """All records of a panel in one process. `wall_seconds` includes attempts that were lost."""

    replica: int
    panel: str
    records: tuple[Record, ...]
    called_seconds: float
    wall_seconds: float


class FirstCalled(msgspec.Struct, frozen=True, tag=True):
    """The first call of a case, in processes of its own."""

    first_call: FirstCall
    called_seconds: float
    wall_seconds: float


Entry = Header | Session | Surroundings | Lost | Finished | FirstCalled


class Journal:
    """The journal of one run, locked. What is in it already is in `surroundings`, `finished`, `lost` and `first_calls`.

    Raises OpbenchError for a folder that can't be written, another run's lock, a journal that is damaged or of
    something else, and, without `resume`, for one that holds finished work.
    """

    def __init__(self, folder: Path, header: Header, session: Session, *, resume: bool = False) -> None:
        self.path = folder / NAME
        self.header = header
        self.surroundings: Surroundings | None = None
        self.finished: dict[tuple[int, str], Finished] = {}
        self.lost: dict[tuple[int, str], list[Record]] = {}
        self.first_calls: dict[str, FirstCalled] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = _locked(self.path)
        except OSError as error:
            raise OpbenchError(f"-o {folder}: cannot be written: {error.strerror}; choose another folder") from error
        try:
            self._open(folder, header, resume=resume)
            self.append(session)
        except BaseException:
            os.close(self._file)
            raise

    def _open(self, folder: Path, header: Header, *, resume: bool) -> None:
        entries, self._end = read(self.path)
        work = sum(isinstance(entry, Lost | Finished) for entry in entries)
        if work and not resume:
            raise OpbenchError(
                f"-o {folder}: {self.path} holds {_panels(work)} of a run that was not finished; go on with --resume, "
                "or delete the file to start anew"
            )
        if not entries or not (work or resume):
            self._end = 0
            entries = []
        os.ftruncate(self._file, self._end)
        if not entries:
            self.append(header)
            return
        _same(self.path, entries[0], header)
        for entry in entries:
            self._take(entry)

    def append(self, entry: Entry) -> None:
        """Writes the entry and returns once it is on disk. A disk that is full keeps what was there before."""
        line = _line(entry)
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise OpbenchError(
                f"{self.path}: can't be written: {error.strerror}; what was finished is kept, go on with --resume"
            ) from error
        self._end += len(line)
        self._take(entry)

    def _take(self, entry: Entry) -> None:
        match entry:
            case Header():
                self.header = entry
            case Surroundings():
                self.surroundings = entry
            case Lost():
                self.lost.setdefault((entry.replica, entry.panel), []).append(entry.record)
            case Finished():
                self.finished[entry.replica, entry.panel] = entry
            case FirstCalled():
                self.first_calls[entry.first_call.case] = entry

    def remove(self) -> None:
        """Deletes the file, while nobody else can have it: the run document now holds all of it."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)


def session(command: str, started: str) -> Session:
    """The session of this process."""
    return Session(os.getpid(), socket.gethostname(), started, command)


def read(path: Path) -> tuple[list[Entry], int]:
    """The entries of a journal, and how many bytes they take: what follows is the torn end of a last line.

    Raises OpbenchError, with the line, for any other damage.
    """
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    entries: list[Entry] = []
    for number, line in enumerate(data[:end].split(b"\n")[:-1], start=1):
        try:
            entries.append(_entry(line))
        except ValueError as error:
            raise OpbenchError(
                f"{path}: line {number} is damaged or was not written by this opbench ({error}); nothing after it can "
                "be trusted: delete the file to start anew"
            ) from None
    if entries and not isinstance(entries[0], Header):
        raise OpbenchError(f"{path}: does not begin as a journal does; delete the file to start anew")
    return entries, end


def differences(before: Environment, now: Environment) -> list[str]:
    """In what two environments differ that makes their times no part of one run."""
    found = []
    for name in ("machine", "cpu", "cores", "threads", "gpu", "python", "platform", "commit"):
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            found.append(f"{name}: {old} there, {new} here")
    for name in sorted({*before.versions, *now.versions}):
        old, new = before.versions.get(name, "none"), now.versions.get(name, "none")
        if old != new:
            found.append(f"{name} {old} there, {new} here")
    return found


def refuse(path: Path, reasons: list[str]) -> None:
    """Raises OpbenchError if there is a reason why the journal is not of this run."""
    if reasons:
        raise OpbenchError(
            f"--resume: {path} is of another run: {'; '.join(reasons)}; repeat its command, or choose another folder"
        )


def digests(contents: Mapping[str, bytes]) -> dict[str, str]:
    """A short digest of each content, by name."""
    return {name: f"{zlib.crc32(content):08x}" for name, content in contents.items()}


def _same(path: Path, before: Entry, now: Header) -> None:
    """Refuses a journal of another suite, other settings, other panels or other extensions."""
    assert isinstance(before, Header)
    reasons = []
    if before.version != now.version:
        reasons.append(f"format {before.version} there, {now.version} here")
    for name in now.settings.__struct_fields__:
        old, new = getattr(before.settings, name), getattr(now.settings, name)
        if old != new:
            reasons.append(f"{name} {_shown(old)} there, {_shown(new)} here")
    if before.threads != now.threads:
        reasons.append(f"--threads {before.threads} there, {now.threads} here")
    for what, olds, news in (("panel", before.panels, now.panels), ("file", before.extensions, now.extensions)):
        changed = [name for name in {**olds, **news} if olds.get(name) != news.get(name)]
        if changed and not any(reason.startswith("suite ") for reason in reasons):
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            reasons.append(f"{what} {changed[0]}{more} is not what it was when the run began")
    refuse(path, reasons)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)


def _panels(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


def _line(entry: Entry) -> bytes:
    text = encode(entry)
    return f"{zlib.crc32(text):08x} ".encode() + text + b"\n"


def _entry(line: bytes) -> Entry:
    """The entry on a line; ValueError says what is wrong with it."""
    crc, _, text = line.partition(b" ")
    if len(crc) != 8 or not text:
        raise ValueError("no checksum")
    if f"{zlib.crc32(text):08x}".encode() != crc:
        raise ValueError("the checksum is wrong")
    entry: Entry = decode(text, Entry)  # type: ignore[arg-type]  # msgspec's errors are ValueErrors
    return entry


def _locked(path: Path) -> int:
    """The file, open to append and locked; the lock is of this process and ends with it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise OpbenchError(
                f"-o {path.parent}: {_holder(path)} is writing there; wait for it or choose another folder"
            ) from None
        except OSError:
            os.close(file)
            raise
        try:
            same = os.fstat(file).st_ino == path.stat().st_ino
        except FileNotFoundError:
            same = False
        if same:
            return file
        os.close(file)  # the run that held it has just finished and deleted it


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, OpbenchError):
        sessions = [entry for entry in read(path)[0] if isinstance(entry, Session)]
        if sessions:
            last = sessions[-1]
            return f"another run (process {last.pid} on {last.host}, since {last.started})"
    return "another run"
