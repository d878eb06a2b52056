"""The journal: what is finished is on disk before the next thing starts; a run killed at any moment can be resumed.

An entry is written at once and flushed to the disk. The file is locked (flock) while a run writes it. The lock dies
with the process, so a stale one can't be; the last `Session` in the file says who holds it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType

from opbench.documents.opening import BINARY, lock
from opbench.engine.entries import (
    NAME,
    Entry,
    FirstCalled,
    Given,
    Header,
    Lost,
    NodeLost,
    PanelFinished,
    Session,
    Stopped,
    Surroundings,
    read,
    written,
)
from opbench.engine.resuming import refuse_other_header
from opbench.schema import OpbenchError, Record


class Journal:
    """The journal of one run, locked. What is in it already is in `surroundings`, `finished`, `lost` and `first_calls`.

    `surroundings` are those of the first machine, `nodes` of every one by its name in a fleet ("" of the only one).
    `killed` has the cases that a worker had, by their panel, each time that the run was killed or a node was lost.

    Raises OpbenchError for a folder that can't be written, another run's lock, a journal that is damaged or of
    something else, and, without `resume`, for one that holds finished work.
    """

    def __init__(self, folder: Path, header: Header, session: Session, *, resume: bool = False) -> None:
        self.path = folder / NAME
        self.header = header
        self.surroundings: Surroundings | None = None
        self.nodes: dict[str, Surroundings] = {}
        self.finished: dict[tuple[int, str], PanelFinished] = {}
        self.lost: dict[tuple[int, str], list[Record]] = {}
        self.first_calls: dict[str, FirstCalled] = {}
        self.killed: dict[tuple[int, str], list[tuple[str, ...]]] = {}
        self._given: Given | None = None
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
        work = sum(isinstance(entry, Lost | PanelFinished) for entry in entries)
        if work and not resume:
            held = f"{work} {'entry' if work == 1 else 'entries'}"
            raise OpbenchError(
                f"-o {folder}: {self.path} holds {held} of a run that was not finished; resume it with --resume, "
                "or delete the file to start anew"
            )
        if not entries or not (work or resume):
            self._end = 0
            entries = []
        os.ftruncate(self._file, self._end)
        if not entries:
            self.append(header)
            return
        before = entries[0]
        assert isinstance(before, Header)
        refuse_other_header(self.path, before, header)
        for entry in entries:
            self._take(entry)

    def append(self, entry: Entry) -> None:
        """Writes the entry and returns once it is on disk. A disk that is full keeps what was there before."""
        line = written(entry)
        try:
            count = 0
            while count < len(line):
                count += os.write(self._file, line[count:])
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise OpbenchError(
                f"{self.path}: can't be written: {error.strerror}; what was finished is kept for --resume"
            ) from error
        self._end += len(line)
        self._take(entry)

    def _take(self, entry: Entry) -> None:
        if isinstance(entry, Session) and self._given is not None:
            self.killed.setdefault((self._given.replica, self._given.panel), []).append(self._given.cases)
        self._given = entry if isinstance(entry, Given) else None
        match entry:
            case Header():
                self.header = entry
            case Surroundings():
                self.surroundings = self.surroundings or entry
                self.nodes[entry.node] = entry
            case Lost():
                self.lost.setdefault((entry.replica, entry.panel), []).append(entry.record)
            case PanelFinished():
                self.finished[entry.replica, entry.panel] = entry
            case NodeLost():
                self.killed.setdefault((entry.replica, entry.panel), []).append(entry.cases)
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
        try:
            if error is not None and self._given is not None:
                with contextlib.suppress(OpbenchError):
                    self.append(Stopped())
        finally:
            os.close(self._file)


def _locked(path: Path) -> int:
    """The file, open to append and locked; the lock is of this process and ends with it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | BINARY, 0o644)
        try:
            lock(file)
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
