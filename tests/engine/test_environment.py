"""Which commit a run is of: of opbench's own checkout, or of the repository it ran in; and why of none."""

import subprocess

import pytest

import opbench
from opbench.engine import environment
from opbench.engine.git import GitError, git


def repository(folder, *more):
    """A repository with one commit; its hash."""
    folder.mkdir(parents=True)
    by = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], [*by, "commit", "-q", "--allow-empty", "-m", "one"], *more):
        git(folder, *words)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """opbench as pip installs it: in an environment inside the user's repository, and no part of it."""
    place = tmp_path / "project" / ".venv" / "site-packages" / "opbench" / "__init__.py"
    monkeypatch.setattr(opbench, "__file__", str(place))
    commit = repository(tmp_path / "project")
    place.parent.mkdir(parents=True)
    return tmp_path / "project", commit


def test_installed_by_pip_it_is_the_commit_of_the_repository_that_the_command_ran_in(installed, tmp_path, monkeypatch):
    folder, commit = installed
    monkeypatch.chdir(folder)
    assert environment.commit_here() == (commit, False, "the repository that the command ran in")
    other = repository(tmp_path / "other")
    monkeypatch.chdir(tmp_path / "other")
    assert environment.commit_here()[0] == other


def test_outside_of_a_repository_the_environment_says_why_there_is_no_commit(installed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commit, dirty, said = environment.commit_here()
    assert (commit, dirty) == (None, None)
    assert said.startswith("none recorded: not a git repository")


def test_a_checkout_is_its_own(tmp_path, monkeypatch):
    commit = repository(tmp_path / "opbench")
    monkeypatch.setattr(opbench, "__file__", str(tmp_path / "opbench" / "opbench" / "__init__.py"))
    repository(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    assert environment.commit_here() == (commit, False, "opbench's own checkout")


def test_a_shallow_clone_says_so(installed, tmp_path, monkeypatch):
    folder, commit = installed
    command = ["git", "clone", "-q", "--depth", "1", f"file://{folder}", str(tmp_path / "shallow")]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.chdir(tmp_path / "shallow")
    found, _, said = environment.commit_here()
    assert found == commit
    assert "shallow clone" in said


def test_the_repository_of_a_hook_is_not_the_one_that_is_asked_about(tmp_path, monkeypatch):
    commit, other = repository(tmp_path / "one"), tmp_path / "two"
    repository(other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert git(tmp_path / "one", "rev-parse", "HEAD") == commit


def test_git_that_is_missing_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="git is not installed"):
        git(tmp_path, "status")


def test_git_that_refuses_is_quoted(tmp_path):
    with pytest.raises(GitError, match="not a git repository"):
        git(tmp_path, "status")
