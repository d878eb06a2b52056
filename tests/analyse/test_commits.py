"""Runs that were measured later of older commits stand where their commits do, where there is a repository."""

import pytest
from factory import make_environment, make_run
from in_process import opbench

from opbench.analyse.history.commits import by_commit
from opbench.analyse.history.store import read
from opbench.documents import save
from opbench.engine.git import git
from opbench.report.dashboard import site


@pytest.fixture
def commits(tmp_path):
    """The hashes of five commits of the repository that `tmp_path` is."""
    git(tmp_path, "init", "-q")
    made = []
    for number in range(5):
        by = ["-c", "user.name=a", "-c", "user.email=a@b"]
        git(tmp_path, *by, "commit", "-q", "--allow-empty", "-m", str(number))
        made.append(git(tmp_path, "rev-parse", "HEAD"))
    return made


def store(folder, measured):
    """A results folder with a run a day of each (commit, name)."""
    for day, (commit, name) in enumerate(measured, start=1):
        run = make_run(started=f"2026-01-{day:02}", environment=make_environment(commit=commit), command=name)
        save(run, folder / "results" / f"{name}.json")
    return read(folder / "results")


def names(found):
    """The runs in their order: by their documents, and by their digests."""
    runs = [one.digest.command for one in found.runs]
    assert runs == [one.command for one in found.digests]
    return "".join(runs)


def test_an_older_commit_that_was_measured_later_stands_before_newer_ones(tmp_path, commits):
    first, second, third, fourth, fifth = commits
    measured = [(first, "a"), (fifth, "e"), (third, "c"), (second, "b"), (fourth, "d")]
    found = store(tmp_path, measured)
    assert names(found) == "aecbd"
    assert names(by_commit(found)) == "abcde"


def test_runs_of_one_commit_and_those_of_none_keep_the_order_of_time(tmp_path, commits):
    measured = [(commits[3], "3"), (None, "x"), (commits[1], "1"), ("f" * 40, "y"), (commits[1], "2"), ("-evil", "z")]
    assert names(by_commit(store(tmp_path, measured))) == "1x2y3z"


def test_a_merged_branch_stands_before_its_merge(tmp_path, commits):
    git(tmp_path, "checkout", "-q", "-b", "side", commits[1])
    by = ["-c", "user.name=a", "-c", "user.email=a@b"]
    git(tmp_path, *by, "commit", "-q", "--allow-empty", "-m", "side")
    side = git(tmp_path, "rev-parse", "HEAD")
    git(tmp_path, "checkout", "-q", "--detach", commits[4])
    git(tmp_path, *by, "merge", "-q", "--no-ff", "-m", "merged", "side")
    merge = git(tmp_path, "rev-parse", "HEAD")
    measured = [(merge, "m"), (commits[0], "a"), (side, "s"), (commits[1], "b")]
    assert names(by_commit(store(tmp_path, measured))) == "absm"


def test_the_repository_that_the_command_runs_in_is_asked_next(tmp_path, commits, monkeypatch):
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    found = store(outside, [(commits[2], "b"), (commits[0], "a")])
    monkeypatch.chdir(outside)
    assert names(by_commit(found)) == "ba"
    monkeypatch.chdir(tmp_path)
    assert names(by_commit(found)) == "ab"


def test_without_git_time_alone_orders(tmp_path, commits, monkeypatch):
    found = store(tmp_path, [(commits[2], "b"), (commits[0], "a")])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert names(by_commit(found)) == "ba"


def test_history_and_dashboard_show_that_order(tmp_path, commits, monkeypatch):
    store(tmp_path, [(commits[2], "b"), (commits[0], "a")])
    case = make_run().records[1].case.id
    shown = opbench("history", case, tmp_path / "results").stdout
    assert shown.index(commits[0][:12]) < shown.index(commits[2][:12])
    seen, payload = [], site.payload
    monkeypatch.setattr(site, "payload", lambda found, *more: seen.append(names(found)) or payload(found, *more))
    assert opbench("dashboard", tmp_path / "results", "-o", tmp_path / "site").returncode == 0
    assert seen == ["ab"]
