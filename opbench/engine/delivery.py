"""A run at an address: worked on in a folder here, each finished part put there at once, and gone on with from there.

Below the address lie

    parts/[TYPE/]KIND-KEY-HASH.part   one finished entry of a journal, as its line; never changed
    index/WRITER.json                 which parts a writer has put there: what a listing may not show yet
    run.json, report.md, ...          what the run leaves in its folder, when it is finished

`opbench.engine.parts` names and reads them.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import shutil
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import msgspec

from opbench.documents import encode
from opbench.engine.entries import NAME
from opbench.engine.executor import ANSWERS
from opbench.engine.parts import INDEX, StoredPart, collected, named, part_name
from opbench.schema import OpbenchError, Plan
from opbench.slug import slug
from opbench.storage.address import address_of
from opbench.storage.mirror import cache_folder, put
from opbench.storage.objects import ObjectStore

# What progress is told: how many are done, and what comes next.
Told = Callable[[int, str], None]


def delivery_to(output: Path) -> Delivery | None:
    """That of a run whose output is an address, worked on in a folder of this machine; None of one in a folder.

    The folder follows from the address, so that what couldn't be put there is found by --resume.
    """
    address = address_of(output)
    return None if address is None else Delivery(address, cache_folder(address).with_suffix(".run"))


class Delivery:
    """Puts what a run's folder holds to a store, part by part; `folder` is on this machine.

    Raises OpbenchError where the store can't be written: then nothing is measured for nothing.
    """

    def __init__(self, address: str, folder: Path, store: ObjectStore | None = None) -> None:
        self.address, self.folder = address, folder
        self._held = store
        self._writer = f"{slug(socket.gethostname(), 20)}-{secrets.token_hex(4)}"
        self._delivered: dict[str, None] = {}
        self._indexed = 0
        self._read: dict[Path, int] = {}
        self._delivering = threading.Lock()

    @property
    def _store(self) -> ObjectStore:
        """Opened when it is first needed: the threads that a store's library starts don't survive a fork."""
        if self._held is None:
            self._held = ObjectStore.at(self.address)
        return self._held

    def begin(self, *, resume: bool) -> None:
        """Adds the parts that are there to the journals of the folder, which a resumed run then begins with.

        Without `resume` an address that holds finished work is refused, as a folder is.
        """
        found = collected(self._store)
        work = [part for part in found.lines if part.kind in ("panel", "lost")]
        if work and not resume:
            raise OpbenchError(
                f"-o {self.address}: holds {len(work)} parts of a run; resume it with --resume, or choose another "
                "address"
            )
        if resume and not work and self._store.read("run.json") is not None:
            raise OpbenchError(f"--resume: {self.address}/run.json is finished; leave --resume out")
        self._store.write(f"{INDEX}/{self._writer}.json", b"[]\n")  # whether it can be written shows now
        self._delivered |= dict.fromkeys(part.name for part in found.lines)
        self._indexed = len(self._delivered)
        for type_ in found.types if resume else ():
            self._add(self.folder / type_ / NAME, found.journal(type_))

    def _add(self, journal: Path, lines: Iterator[tuple[StoredPart, bytes]]) -> None:
        """What of the lines a journal doesn't hold, behind what it does; a header comes first or not at all."""
        held: set[tuple[str, str] | None] = set()
        end = 0
        if journal.exists():
            with journal.open("rb") as file:
                for line in _whole(file):
                    try:
                        held.add(named(line.rstrip(b"\n")))
                    except ValueError:
                        return  # damaged: the run that opens it says which line
                    end += len(line)
        more = ((part, line) for part, line in lines if (part.kind, part.key) not in held)
        first = next(more, None)
        if first is None or not (end or first[0].kind == "header"):
            return
        journal.parent.mkdir(parents=True, exist_ok=True)
        with journal.open("r+b" if end else "wb") as file:
            file.truncate(end)  # a kill may have torn the last line
            file.seek(end)
            for _, line in itertools.chain([first], more):
                file.write(line.rstrip(b"\n") + b"\n")

    def plan(self, plan: Plan, type_: str = "") -> None:
        """Puts there what is going to be measured, so that whoever merges knows what belongs together."""
        text = encode(plan)
        self._put(type_, "plan", "run", f"{zlib.crc32(text):08x} ".encode() + text + b"\n")

    def deliver(self, *, patient: bool = True) -> None:
        """Puts there what the journals hold since the last time.

        While a run goes on it is patient: what a store refuses now it may take the next time, and the journal has it.
        """
        try:
            with self._delivering:  # several node types tell of their progress at once
                self._deliver()
        except OpbenchError:
            if not patient:
                raise

    def _deliver(self) -> None:
        for journal in self._journals():
            type_ = "" if journal.parent == self.folder else journal.parent.name
            for line in self._new_lines(journal):
                of = named(line.rstrip(b"\n"))
                if of is not None:
                    self._put(type_, *of, line)
                self._read[journal] = self._read.get(journal, 0) + len(line)
        # Each time that there are twice as many: all indexes together are as long as the last one is, twice.
        if len(self._delivered) >= 2 * max(1, self._indexed):
            self.index()

    @contextlib.contextmanager
    def beside(self, shown: AbstractContextManager[Told]) -> Iterator[Told]:
        """Progress as it is shown; each time that it is told of, what was finished is delivered."""
        with shown as told:

            def tell(done: int, text: str) -> None:
                self.deliver()
                told(done, text)

            yield tell

    def index(self) -> None:
        """Writes this writer's index."""
        names = sorted(self._delivered)
        self._store.write(f"{INDEX}/{self._writer}.json", msgspec.json.encode(names) + b"\n")
        self._indexed = len(names)

    def finish(self) -> str:
        """Puts there what the run has left in its folder, which is taken away; the parts stay, as what was measured.

        Returns the address.
        """
        self.deliver(patient=False)
        self.index()
        for journal in self._journals():
            journal.unlink()
        shutil.rmtree(self.folder / ANSWERS, ignore_errors=True)
        put(self.folder, self._store)
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.address

    def _journals(self) -> list[Path]:
        """The folder's own, and those of a fleet's node types."""
        return sorted((*self.folder.glob(NAME), *self.folder.glob(f"*/{NAME}")))

    def _put(self, type_: str, kind: str, key: str, line: bytes) -> None:
        name = part_name(type_, kind, key, line)
        if name not in self._delivered:
            self._store.write(name, line)
            self._delivered[name] = None

    def _new_lines(self, journal: Path) -> Iterator[bytes]:
        """Whole lines since the last time; a torn one is not yet written."""
        begin = self._read.get(journal, 0)
        try:
            file = journal.open("rb")
        except FileNotFoundError:  # the run has just finished
            return
        with file:
            file.seek(begin)
            yield from _whole(file)


def _whole(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a journal that are whole, one by one: together they may be half a gigabyte."""
    return itertools.takewhile(lambda line: line.endswith(b"\n"), file)
