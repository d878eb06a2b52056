"""Two revisions of this package on disk at once: one of git's beside the tree that is imported."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import opbench
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
        commit = _git(root, "rev-parse", "--verify", f"{reference}^{{commit}}")
    except subprocess.CalledProcessError as error:
        raise OpbenchError(f"compare --paired {reference}: not a revision here ({error.stderr.strip()})") from None
    with tempfile.TemporaryDirectory(prefix="opbench-paired-") as folder:
        tree = Path(folder).resolve() / "base"
        _git(root, "worktree", "add", "--detach", str(tree), commit)
        try:
            head = Revision(root, _git(root, "rev-parse", "HEAD"), bool(_git(root, "status", "--porcelain", "-uno")))
            yield Revision(tree, commit, False), head
        finally:
            _git(root, "worktree", "remove", "--force", str(tree))


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
