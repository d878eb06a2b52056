"""Appending runs to a results folder's history, and letting go of old raw samples.

Each run has two files of its own, named by what it is, so that adding a run twice changes nothing, two machines never
write the same file, and the merge of two stores is the union of their files. See `history.store` for the layout.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import msgspec

from opbench import documents
from opbench.analyse.history.commits import by_commit
from opbench.analyse.history.digest import Digest, digest
from opbench.analyse.history.series import series
from opbench.analyse.history.sound import agree
from opbench.analyse.history.store import DIGEST_SUFFIX, RUN_SUFFIX, Store, Stored, checked, moment, read, remade
from opbench.documents import content, contents, parse, render, replace_file
from opbench.schema import OpbenchError, Run
from opbench.statistics.change_points import LEAST
from opbench.storage.mirror import put
from opbench.storage.objects import ObjectStore

HISTORY = "history"


class Kept(msgspec.Struct, frozen=True):
    """Where a run lies in the store, relative to its folder; `new` is False where it was there before."""

    path: str
    new: bool


def keep(document: Path, root: Path) -> Kept:
    """Puts a run document into the history of `root`. Raises `OpbenchError` for anything that is not a run document."""
    documents.read(document, Run)  # whose errors name the file
    data = contents(document, Run)
    made = digest(parse(data, Run), data)
    name = f"{HISTORY}/{made.machine}/{name_of(made)}"
    for suffix in (RUN_SUFFIX, DIGEST_SUFFIX):
        _no_link(root, f"{name}{suffix}")
    if _tells(root / f"{name}{DIGEST_SUFFIX}", made):
        return Kept(f"{name}{RUN_SUFFIX}", new=False)
    replace_file(root / f"{name}{RUN_SUFFIX}", data)
    # Last, because it says that all is there.
    replace_file(root / f"{name}{DIGEST_SUFFIX}", render(made))
    return Kept(f"{name}{RUN_SUFFIX}", new=True)


def keep_at(document: Path, address: str) -> Kept:
    """The same into the history at an address, where two files of a name are the same file."""
    store = ObjectStore.at(address)
    with tempfile.TemporaryDirectory(prefix="opbench-") as folder:
        kept = keep(document, Path(folder))
        return Kept(kept.path, new=bool(put(Path(folder), store)))


def let_go(root: Path, newest: int) -> tuple[str, ...]:
    """Deletes the raw samples of the history's older runs, keeping their digests; the paths deleted.

    Kept are the `newest` run documents of each machine, and those that a question will come back to: the `LEAST` runs
    on either side of every step in a latency ratio. A document whose digest can't be read stays, and so does every
    document outside of `history/`.
    """
    store = read(root)
    held = [one for one in store.runs if one.path.startswith(f"{HISTORY}/") and one.path.endswith(RUN_SUFFIX)]
    # The digests on the disk may be anybody's: what is let go, and what is kept of it, the documents say.
    store = checked(store, held)
    asked_for = _around_steps(by_commit(store))  # the steps that a history shows
    by_machine: dict[str, list[Stored]] = {}
    kept = {one.path for one in held}
    for one in store.runs:
        if one.path in kept:
            by_machine.setdefault(one.digest.machine, []).append(one)
    gone = []
    for ours in by_machine.values():
        for one in ours[: max(0, len(ours) - newest)]:
            if one.digest.sha256 not in asked_for and _digested(root, one):
                _delete(root / one.path)
                gone.append(one.path)
    return tuple(gone)


def _digested(root: Path, one: Stored) -> bool:
    """Whether the digest on the disk is what the document gives, written anew where it said something else.

    False where the document or its digest can't be read: then both stay as they are.
    """
    name = one.path.removesuffix(RUN_SUFFIX) + DIGEST_SUFFIX
    try:
        made = remade(one)
        parse(content(root / name), Digest)
        _no_link(root, name)
        if not _tells(root / name, made):
            replace_file(root / name, render(made))
    except (OSError, OpbenchError):
        return False
    return _tells(root / name, made)


def _tells(path: Path, made: Digest) -> bool:
    """Whether the digest at `path` can be read and says what `made` does."""
    try:
        return agree(parse(content(path), Digest), made)
    except (OSError, OpbenchError):
        return False


def _no_link(root: Path, name: str) -> None:
    """Refuses a history that leads out of the results folder."""
    for part in (Path(name), *Path(name).parents):
        if (root / part).is_symlink() and part != Path():
            raise OpbenchError(f"{root / part}: is a link, and a history isn't kept through one: put a folder there")


def _around_steps(store: Store) -> frozenset[str]:
    """Hashes of the runs next to a step of any case."""
    return frozenset(
        point.sha256
        for one in series(store.digests, quantities=("ratio",))
        for step in one.changes
        for point in one.points[max(0, step.at - LEAST) : step.at + LEAST]
    )


def name_of(made: Digest) -> str:
    """What the files of a run are called in a store: when, of which commit, and the beginning of its hash."""
    when = moment(made.started)
    stamp = when.strftime("%Y%m%dT%H%M%SZ") if when else "undated"
    commit = made.environment.commit or ""
    told = commit[:12] if re.fullmatch("[0-9a-f]{7,64}", commit) else "no-commit"
    return "-".join([stamp, told, *(["dirty"] if made.environment.dirty else []), made.sha256[:12]])


def _delete(path: Path) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:  # by another `opbench keep`, at the same time
        pass
    except OSError as error:
        raise OpbenchError(f"{path}: can't be deleted: {error.strerror or error}") from None
