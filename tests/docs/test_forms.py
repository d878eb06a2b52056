"""What people fill in, and what tools read beside the pages."""

import json

import pytest
import yaml
from pages import ROOT

from opbench import main

FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize("path", [form for form in FORMS if form.name != "config.yml"], ids=lambda path: path.name)
def test_every_form_asks_for_the_environment(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form)
    assert any("`opbench env`" in field["attributes"]["label"] for field in form["body"])
    assert len({field["id"] for field in form["body"]}) == len(form["body"])


def test_the_citation_names_the_authors_as_a_group():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert cited["authors"] == [{"name": "the opbench authors"}]


def test_hooks_before_a_commit_are_the_tools_of_nox_lint():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    entries = {hook["entry"].removesuffix(" --force-exclude") for hook in hooks[0]["hooks"]}
    assert entries == {"ruff check", "ruff format", "mypy"}


def test_the_hook_for_others_runs_check_from_their_environment():
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["entry"] == "opbench check"
    # In an environment of pre-commit's own the target could import nothing of its repository.
    assert hook["language"] == "system"
    assert hook["pass_filenames"] is False
    assert "check" in {command.name for command in main.commands()}


def test_a_development_container_installs_what_contributing_says():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    install = container["postCreateCommand"]
    assert install == "pip install -e '.[all,dev]' -c constraints.txt"
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert ".devcontainer" in contributing
    assert "pip install -e '.[all,dev" in contributing
