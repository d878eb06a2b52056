"""Appending runs to a results folder's history, and letting go of old raw samples.

Each run has two files of its own, named by what it is, so that adding a run twice changes nothing, two machines never
write the same file, and the merge of two stores is the union of their files. See `history.store` for the layout.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from opbench import documents
from opbench.analyse.history.digest import Digest, digest
from opbench.analyse.history.series import series
from opbench.analyse.history.store import DIGEST_SUFFIX, RUN_SUFFIX, Store, Stored, moment, read
from opbench.documents import contents, parse, render, replace_file
from opbench.schema import OpbenchError, Run
from opbench.statistics.change_points import LEAST

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
    name = f"{HISTORY}/{made.machine}/{_name(made)}"
    if _tells(root / f"{name}{DIGEST_SUFFIX}", made.sha256):
        return Kept(f"{name}{RUN_SUFFIX}", new=False)
    replace_file(root / f"{name}{RUN_SUFFIX}", data)
    # Last, because it says that all is there.
    replace_file(root / f"{name}{DIGEST_SUFFIX}", render(made))
    return Kept(f"{name}{RUN_SUFFIX}", new=True)


def let_go(root: Path, newest: int) -> tuple[str, ...]:
    """Deletes the raw samples of the history's older runs, keeping their digests; the paths deleted.

    Kept are the `newest` run documents of each machine, and those that a question will come back to: the `LEAST` runs
    on either side of every step in a latency ratio. A document whose digest can't be read stays, and so does every
    document outside of `history/`.
    """
    store = read(root)
    asked_for = _around_steps(store)
    by_machine: dict[str, list[Stored]] = {}
    for one in store.runs:
        if one.path.startswith(f"{HISTORY}/") and one.path.endswith(RUN_SUFFIX):
            by_machine.setdefault(one.digest.machine, []).append(one)
    gone = []
    for held in by_machine.values():
        for one in held[: max(0, len(held) - newest)]:
            beside = root / (one.path.removesuffix(RUN_SUFFIX) + DIGEST_SUFFIX)
            if one.digest.sha256 not in asked_for and _tells(beside, one.digest.sha256):
                _delete(root / one.path)
                gone.append(one.path)
    return tuple(gone)


def _tells(path: Path, sha256: str) -> bool:
    """Whether the digest at `path` can be read and is of the document with that hash."""
    try:
        return parse(path.read_bytes(), Digest).sha256 == sha256
    except (OSError, OpbenchError):
        return False


def _around_steps(store: Store) -> frozenset[str]:
    """Hashes of the runs next to a step of any case."""
    return frozenset(
        point.sha256
        for one in series(store.digests, quantities=("ratio",))
        for step in one.changes
        for point in one.points[max(0, step.at - LEAST) : step.at + LEAST]
    )


def _name(made: Digest) -> str:
    when = moment(made.started)
    stamp = when.strftime("%Y%m%dT%H%M%SZ") if when else "undated"
    commit = made.environment.commit or ""
    told = commit[:12] if re.fullmatch("[0-9a-f]{7,64}", commit) else "no-commit"
    return "-".join([stamp, told, *(["dirty"] if made.environment.dirty else []), made.sha256[:12]])


def _delete(path: Path) -> None:
    try:
        os.unlink(path)
    except OSError as error:
        raise OpbenchError(f"{path}: can't be deleted: {error.strerror or error}") from None
