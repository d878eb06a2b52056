"""A results folder as a store: run documents and their digests, and a sentence for each that can't be read.

Every file is of one run alone and never written again, so two stores merge by copying the files of both into one
folder, and git or an object store keeps them as they are. `history.retention` lays them out as

    history/MACHINE/STARTED-COMMIT-HASH.run.json       the run document, byte for byte
    history/MACHINE/STARTED-COMMIT-HASH.digest.json    its digest; stays where the raw samples are let go

and a run document anywhere else in the folder counts as well.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec

from opbench.analyse.history.digest import Digest, digest
from opbench.analyse.history.sound import agree
from opbench.analyse.standings import Standing, standings
from opbench.documents import GZIP, OtherKindError, content, parse, unpacked
from opbench.schema import OpbenchError, Run
from opbench.storage.mirror import fetched

RUN_SUFFIX = ".run.json"
DIGEST_SUFFIX = ".digest.json"

WRONG_DIGEST = (
    "its digest says something else than the document gives; what the document gives is shown (`opbench keep` of it "
    "writes the digest anew)"
)

# Documents without a digest that are held in memory once read; later ones are read again when asked for.
HELD = 200


@dataclass(frozen=True)
class FileProblem:
    """A file that is not shown, and the sentence that says why."""

    path: str
    sentence: str


@dataclass(frozen=True)
class Stored:
    """One run document of the store, `path` relative to its folder. `run` is read when first asked for.

    `beside`: the digest was read from a file, and the document not opened.
    """

    root: Path
    path: str
    digest: Digest
    beside: bool = False

    @cached_property
    def run(self) -> Run:
        """The document itself, raw samples and all; raises `OpbenchError` where it has changed meanwhile."""
        return self.opened()

    @cached_property
    def standings(self) -> tuple[Standing, ...]:
        """How the contenders of `run` stand; the same."""
        return standings(self.run)

    def opened(self) -> Run:
        """The same, not kept in memory."""
        try:
            data = unpacked(content(self.root / self.path))
        except OSError as error:
            raise OpbenchError(f"{self.path}: can't be read: {error.strerror or error}") from None
        if hashlib.sha256(data).hexdigest() != self.digest.sha256:
            raise OpbenchError(f"{self.path}: is not the document that its digest was made from; delete the digest")
        return parse(data, Run)

    def held_or_opened(self) -> Run:
        """The same, from memory where it is held there."""
        return vars(self).get("run") or self.opened()


@dataclass(frozen=True)
class Store:
    """A results folder, oldest run first.

    `runs` have their document; `digests` are of every run, also of those whose document was let go. Both hold a run
    once, however many copies of its document lie in the folder.
    """

    root: Path
    runs: tuple[Stored, ...]
    digests: tuple[Digest, ...]
    problems: tuple[FileProblem, ...]


def read(folder: str | os.PathLike[str]) -> Store:
    """Every run in `folder` (or at that address) and below. Raises `OpbenchError` only where that can't be read."""
    root = fetched(Path(folder))
    problems: list[FileProblem] = []
    files = _files(root, problems)
    digests: dict[str, Digest] = {}
    of_path: dict[str, Digest] = {}
    for path in files:
        if path.endswith(DIGEST_SUFFIX):
            found = _digest(root / path, path, problems)
            if found is not None:
                digests.setdefault(found.sha256, found)
                of_path[path.removesuffix(DIGEST_SUFFIX) + RUN_SUFFIX] = found
    stored: dict[str, Stored] = {}
    held = 0
    for path in files:
        if path.endswith(DIGEST_SUFFIX):
            continue
        beside = of_path.get(path)
        if beside is not None and _size(root / path) == beside.document_bytes:
            # The document is not opened: thousands of them would be. Its hash is compared when it is.
            stored.setdefault(beside.sha256, Stored(root, path, beside, beside=True))
            continue
        data = _bytes(root / path, path, problems)
        if data is None:
            continue
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 in digests:  # of a copy, or kept in the history
            stored.setdefault(sha256, Stored(root, path, digests[sha256], beside=True))
            continue
        run = _run(data, path, problems)
        if run is None:
            continue
        stand = standings(run)
        one = stored[sha256] = Stored(root, path, digest(run, data, stand))
        digests[sha256] = one.digest
        if held < HELD:
            held += 1
            vars(one).update(run=run, standings=stand)  # what cached_property would keep
    return Store(
        root=root,
        runs=tuple(sorted(stored.values(), key=lambda one: _when(one.digest))),
        digests=tuple(sorted(digests.values(), key=_when)),
        problems=tuple(sorted(problems, key=lambda problem: problem.path)),
    )


def checked(store: Store, opened: Iterable[Stored]) -> Store:
    """The store with the digests of the `opened` runs made anew from their documents.

    A digest that says something else than its document gives is a problem, and what the document gives is shown. A
    document that can't be read stays as it is: whoever opens it is told why.
    """
    made: dict[str, Digest] = {}
    for one in opened:
        if one.beside:
            try:
                right = remade(one)
            except OpbenchError:
                continue
            if not agree(right, one.digest):
                made[one.digest.sha256] = right
    if not made:
        return store
    wrong = [one for one in store.runs if one.digest.sha256 in made]
    problems = [FileProblem(one.path, WRONG_DIGEST) for one in wrong]
    return Store(
        root=store.root,
        runs=tuple(
            replace(one, digest=made[one.digest.sha256]) if one.digest.sha256 in made else one for one in store.runs
        ),
        digests=tuple(made.get(one.sha256, one) for one in store.digests),
        problems=(*store.problems, *problems),
    )


def remade(one: Stored) -> Digest:
    """The digest that the document gives."""
    made = digest(one.held_or_opened(), b"")
    return msgspec.structs.replace(made, sha256=one.digest.sha256, document_bytes=one.digest.document_bytes)


def moment(started: str) -> datetime.datetime | None:
    """The moment that a document's `started` names, in UTC; None where it is none."""
    try:
        found = datetime.datetime.fromisoformat(started)
    except ValueError:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=datetime.UTC)
    try:
        return found.astimezone(datetime.UTC)
    except OverflowError:
        return None


def _when(one: Digest) -> tuple[datetime.datetime, str, str]:
    """What orders runs; one without a readable time comes first."""
    found = moment(one.started) or datetime.datetime.min.replace(tzinfo=datetime.UTC)
    return found, one.started, one.sha256


def _files(root: Path, problems: list[FileProblem]) -> list[str]:
    """Paths of the JSON files under `root`, sorted. Links to folders are not followed: they may lead in circles."""
    if not root.is_dir():
        what = "is a file" if root.exists() else "no such folder"
        raise OpbenchError(f"{root}: {what} (expected a results folder with run documents)")

    def unreadable(error: OSError) -> None:
        if error.filename == os.fspath(root):
            raise OpbenchError(f"{root}: can't be read: {error.strerror}")
        where = os.path.relpath(error.filename or root, root)
        problems.append(FileProblem(where, f"folder can't be read: {error.strerror}; what is in it is not shown"))

    return sorted(_walk(root, unreadable))


def _walk(root: Path, unreadable: object) -> Iterator[str]:
    for folder, folders, names in os.walk(root, onerror=unreadable):  # type: ignore[arg-type]
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = os.path.relpath(folder, root)
        for name in names:
            if name.removesuffix(GZIP).endswith(".json") and not name.startswith("."):
                yield name if inside == os.curdir else f"{inside}/{name}".replace(os.sep, "/")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _bytes(path: Path, name: str, problems: list[FileProblem]) -> bytes | None:
    try:
        return unpacked(content(path))
    except OpbenchError as error:
        problems.append(FileProblem(name, f"not shown: {error}"))
        return None
    except OSError as error:
        problems.append(FileProblem(name, f"not shown: can't be read: {error.strerror or error}"))
        return None


def _digest(path: Path, name: str, problems: list[FileProblem]) -> Digest | None:
    data = _bytes(path, name, problems)
    if data is None:
        return None
    try:
        return parse(data, Digest)
    except OpbenchError as error:
        problems.append(FileProblem(name, f"not shown: {error}"))
        return None


def _run(data: bytes, name: str, problems: list[FileProblem]) -> Run | None:
    try:
        return parse(data, Run)
    except OtherKindError:  # selfchecks and studies lie beside the runs of their machine
        return None
    except OpbenchError as error:
        problems.append(FileProblem(name, f"not shown: {error}"))
        return None
