"""Two revisions of this package on disk at once: one of git's beside the tree that is imported."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import opbench
from opbench.engine.git import GitError, git
from opbench.schema import OpbenchError


@dataclass(frozen=True)
class Revision:
    """A tree that holds the package, and what git calls it."""

    root: Path
    commit: str | None
    dirty: bool | None


@contextlib.contextmanager
def checked_out(reference: str) -> Iterator[tuple[Revision, Revision]]:
    """(the revision `reference` in a temporary work tree, the tree that this package is imported from)."""
    root = Path(opbench.__file__).parents[1].resolve()
    if not (root / ".git").exists():
        raise OpbenchError(
            f"compare --paired: {root} is no git checkout; run it from one (`pip install -e .`), or measure both "
            "revisions by themselves and compare the documents"
        )
    try:
        commit = git(root, "rev-parse", "--verify", f"{reference}^{{commit}}")
    except GitError as error:
        raise OpbenchError(f"compare --paired {reference}: not a revision here ({error})") from None
    with tempfile.TemporaryDirectory(prefix="opbench-paired-") as folder:
        tree = Path(folder).resolve() / "base"
        try:
            git(root, "worktree", "add", "--detach", str(tree), commit)
        except GitError as error:
            raise OpbenchError(f"compare --paired {reference}: it can't be checked out ({error})") from None
        try:
            head = Revision(root, git(root, "rev-parse", "HEAD"), bool(git(root, "status", "--porcelain", "-uno")))
            yield Revision(tree, commit, False), head
        except GitError as error:
            raise OpbenchError(f"compare --paired: {error}") from None
        finally:
            with contextlib.suppress(GitError):  # the temporary folder goes in any case
                git(root, "worktree", "remove", "--force", str(tree))
