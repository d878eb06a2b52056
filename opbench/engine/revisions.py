"""Revisions of this package on disk at once: git's beside the tree that is imported, and the history between two."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import opbench
from opbench.documents.opening import lock
from opbench.engine.git import GitError, git
from opbench.schema import OpbenchError

# What the folders of temporary work trees are called, and the file in them that is locked as long as they are used.
TEMPORARY, HELD = "opbench-paired-", "held"


@dataclass(frozen=True)
class Revision:
    """A tree that holds the package, and what git calls it."""

    root: Path
    commit: str | None
    dirty: bool | None


@contextlib.contextmanager
def checked_out(reference: str) -> Iterator[tuple[Revision, Revision]]:
    """(the revision `reference` in a temporary work tree, the tree that this package is imported from)."""
    history = History.here()
    root = history.root
    commit = history.commit(reference)
    try:
        head = Revision(root, git(root, "rev-parse", "HEAD"), bool(git(root, "status", "--porcelain", "-uno")))
    except GitError as error:
        raise OpbenchError(f"compare --paired: {error}") from None
    with history.tree(commit) as base:
        yield base, head


@dataclass(frozen=True)
class History:
    """The commits of the repository at `root`."""

    root: Path

    @classmethod
    def here(cls) -> History:
        """Of the checkout that this package is imported from."""
        root = Path(opbench.__file__).parents[1].resolve()
        if not (root / ".git").exists():
            raise OpbenchError(
                f"compare --paired: {root} is no git checkout; run it from one (`pip install -e .`), or measure both "
                "revisions by themselves and compare the documents"
            )
        return cls(root)

    def commit(self, reference: str) -> str:
        """The commit that a reference names."""
        try:
            return git(self.root, "rev-parse", "--verify", "--end-of-options", f"{reference}^{{commit}}")
        except GitError as error:
            raise OpbenchError(f"compare --paired {reference}: not a revision here ({error})") from None

    @contextlib.contextmanager
    def tree(self, commit: str) -> Iterator[Revision]:
        """A commit in a temporary work tree. Those that killed processes have left are taken away first."""
        self._take_away_left_ones()
        with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder, _held(Path(folder) / HELD):
            tree = Path(folder).resolve() / "base"
            try:
                git(self.root, "worktree", "add", "--detach", str(tree), commit)
            except GitError as error:
                raise OpbenchError(f"compare --paired {commit[:12]}: it can't be checked out ({error})") from None
            try:
                yield Revision(tree, commit, False)
            finally:
                with contextlib.suppress(GitError):  # the temporary folder goes in any case
                    git(self.root, "worktree", "remove", "--force", str(tree))

    def _take_away_left_ones(self) -> None:
        """Work trees of `tree` whose process is gone: nobody holds their lock."""
        for line in git(self.root, "worktree", "list", "--porcelain").splitlines():
            tree = Path(line.removeprefix("worktree "))
            if line.startswith("worktree ") and tree.parent.name.startswith(TEMPORARY):
                with contextlib.suppress(OSError, GitError), _held(tree.parent / HELD):
                    git(self.root, "worktree", "remove", "--force", str(tree))
                    shutil.rmtree(tree.parent, ignore_errors=True)

    def check_order(self, good: str, bad: str) -> None:
        """Raises OpbenchError unless the bad commit comes after the good one."""
        try:
            common = git(self.root, "merge-base", good, bad)
        except GitError:
            common = ""
        if good == bad or common != good:
            raise OpbenchError(
                f"compare --paired {good[:12]} --bisect {bad[:12]}: expected a bad commit that comes after the good "
                f"one; their last common commit is {common[:12] or 'none'}"
            )

    def between(self, goods: Sequence[str], bad: str) -> list[str]:
        """What is of the bad commit and of none of the good ones, itself too; first what halves it best."""
        listed = git(self.root, "rev-list", "--bisect-all", bad, *(f"^{good}" for good in goods))
        return [line.split()[0] for line in listed.splitlines()]

    def in_order(self, goods: Sequence[str], bad: str) -> list[str]:
        """The same commits, parents before children."""
        return git(self.root, "rev-list", "--topo-order", "--reverse", bad, *(f"^{good}" for good in goods)).split()

    def merges(self, goods: Sequence[str], bad: str) -> set[str]:
        """Those of them that have two parents or more."""
        return set(git(self.root, "rev-list", "--merges", bad, *(f"^{good}" for good in goods)).split())

    def subject(self, commit: str) -> str:
        """The first line of a commit's message."""
        return git(self.root, "log", "-1", "--format=%s", commit)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """A file that is locked. Raises OSError where another process has it, or its folder is gone."""
    with path.open("ab") as file:
        lock(file.fileno())
        yield
