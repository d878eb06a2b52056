"""The first bad commit is found in a real history of git, whose commits say how slow they are."""

import subprocess

import pytest
from by_day import first_by_day
from planted_revisions import paired_request, plant

from opbench.analyse.compare.bisecting import bisect_comparison
from opbench.documents import parse, render
from opbench.engine.revisions import History
from opbench.report.comparison import bisected
from opbench.schema import OpbenchError

SLOW = "1.1e-3"


class Repository:
    """A small history: each commit writes the seconds that a call takes in it."""

    def __init__(self, root):
        self.root = root
        self.git("init", "-q", "-b", "main")
        (root / "opbench").mkdir()
        self.count = 0

    def git(self, *arguments):
        identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
        done = subprocess.run(
            ["git", "-C", str(self.root), *identity, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, said, subject=None):
        self.count += 1
        (self.root / "opbench" / "speed.txt").write_text(f"{said}\n")
        (self.root / f"{self.count}.txt").touch()
        self.git("add", "-A")
        self.git("commit", "-qm", subject or f"commit {self.count}")
        return self.git("rev-parse", "HEAD")

    def bisect(self, good, bad):
        return bisect_comparison(History(self.root), good, bad, paired_request())


@pytest.fixture
def repository(tmp_path, monkeypatch):
    plant(monkeypatch)
    return Repository(tmp_path)


def said(found):
    return " ".join(bisected(found.bisection))


@pytest.mark.parametrize("place", first_by_day([4, 1, 8]))
def test_the_first_slow_commit_is_found_in_few_steps(repository, place):
    commits = [repository.commit(SLOW if at >= place else "1e-3") for at in range(9)]
    found = repository.bisect(commits[0], commits[-1])
    assert found.regressed
    (first,) = found.bisection.first_bad
    assert first.commit == commits[place]
    assert len(found.bisection.tried) <= 3
    assert f"First bad commit: {commits[place][:12]} commit {place + 1}" in said(found)
    assert parse(render(found)).bisection == found.bisection
    assert repository.git("worktree", "list").count("\n") == 0


def test_an_unbuildable_commit_is_skipped_and_said(repository):
    good = repository.commit("1e-3")
    broken = repository.commit("broken", "does not load")
    slow = repository.commit(SLOW, "slower")
    last = repository.commit(SLOW)
    found = repository.bisect(good, last)
    assert [commit.commit for commit in found.bisection.first_bad] == [broken, slow]
    assert "is one of 2" in said(found)
    assert "does not load: can't be measured: the worker ended with exit code 1: SyntaxError" in said(found)


def test_a_broken_commit_that_is_not_beside_the_first_bad_one_costs_nothing(repository):
    commits = [repository.commit(speed) for speed in ("1e-3", "1e-3", "broken", "1e-3", "1e-3", SLOW, SLOW)]
    (first,) = repository.bisect(commits[0], commits[-1]).bisection.first_bad
    assert first.commit == commits[5]


def test_merges_are_skipped_and_what_a_branch_brought_is_found_in_the_branch(repository):
    good = repository.commit("1e-3")
    repository.git("checkout", "-qb", "side")
    side = [repository.commit(speed, f"side {speed}") for speed in ("1e-3", SLOW, SLOW)]
    repository.git("checkout", "-q", "main")
    (repository.root / "other.txt").touch()
    repository.git("add", "-A")
    repository.git("commit", "-qm", "main goes on")
    repository.git("merge", "-q", "--no-ff", "-m", "the merge", "side")
    merge = repository.git("rev-parse", "HEAD")
    last = repository.commit(SLOW)
    found = repository.bisect(good, last)
    (first,) = found.bisection.first_bad
    assert first.commit == side[1]
    assert merge not in {commit.commit for commit in found.bisection.tried if commit.verdict != "skipped"}


def test_a_merge_that_may_have_brought_it_is_named_beside_the_commit_after_it(repository):
    good = repository.commit("1e-3")
    repository.git("checkout", "-qb", "side")
    (repository.root / "side.txt").touch()
    repository.git("add", "-A")
    repository.git("commit", "-qm", "side")
    repository.git("checkout", "-q", "main")
    repository.commit("1e-3")
    repository.git("merge", "-q", "--no-ff", "-m", "the merge", "side")
    merge = repository.git("rev-parse", "HEAD")
    slow = repository.commit(SLOW)
    found = repository.bisect(good, slow)
    assert [commit.commit for commit in found.bisection.first_bad] == [merge, slow]
    assert "the merge: a merge" in said(found)


def test_a_bad_revision_that_is_not_bad_has_no_first_bad_commit(repository):
    commits = [repository.commit("1e-3") for _ in range(3)]
    found = repository.bisect(commits[0], commits[-1])
    assert not found.regressed
    assert "Nothing to bisect" in said(found)


def test_a_bad_revision_before_the_good_one_is_refused(repository):
    older, newer = repository.commit("1e-3"), repository.commit("1e-3")
    with pytest.raises(OpbenchError, match="comes after the good one"):
        History(repository.root).check_order(newer, older)
    with pytest.raises(OpbenchError, match="comes after the good one"):
        History(repository.root).check_order(newer, newer)
    History(repository.root).check_order(older, newer)
