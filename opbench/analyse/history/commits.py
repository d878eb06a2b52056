"""Runs in the order of their commits: an older commit that was measured later stands where it belongs.

The repository that the results lie in is asked, or else the one that the command runs in. A run whose commit that one
doesn't know, or that has none, keeps its place among the others by its time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from opbench.analyse.history.digest import Digest
from opbench.analyse.history.store import Store
from opbench.engine.git import GitError, git

T = TypeVar("T")
# A document may hold anything in a commit's place; of that nothing reaches git.
_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


def by_commit(store: Store) -> Store:
    """The store with its runs oldest commit first; as it is where no repository knows two of the commits."""
    commits = {one.environment.commit for one in store.digests if _HASH.fullmatch(one.environment.commit or "")}
    rank: Mapping[str, int] = {}
    for folder in (store.root, Path.cwd()):
        if len(commits) > 1 and len(rank) < 2:
            rank = _ranks(folder, sorted(filter(None, commits)))
    if len(rank) < 2:
        return store
    runs = _in_order(store.runs, lambda one: _commit(one.digest), rank)
    return replace(store, runs=runs, digests=_in_order(store.digests, _commit, rank))


def _commit(one: Digest) -> str:
    return one.environment.commit or ""


def _ranks(folder: Path, commits: Collection[str]) -> dict[str, int]:
    """The place in its history of each commit that the folder's repository knows: parents before children."""
    try:
        known = git(folder, "rev-list", "--no-walk=unsorted", "--ignore-missing", *commits).split()
        if len(known) < 2:
            return {}
        history = git(folder, "rev-list", "--topo-order", "--reverse", *known).split()
    except GitError:
        return {}
    wanted = set(known)
    return {commit: place for place, commit in enumerate(history) if commit in wanted}


def _in_order(items: Sequence[T], commit_of: Callable[[T], str], rank: Mapping[str, int]) -> tuple[T, ...]:
    """The items with a known commit in the order of the commits, in the places that these had; one commit's by time."""
    places = [place for place, one in enumerate(items) if commit_of(one) in rank]
    found = list(items)
    ordered = sorted((items[place] for place in places), key=lambda one: rank[commit_of(one)])
    for place, one in zip(places, ordered, strict=True):
        found[place] = one
    return tuple(found)
