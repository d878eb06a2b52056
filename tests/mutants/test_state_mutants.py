"""Bugs of state and of calls: found in process by the relations, and from the command line with --first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import state_mutants
from by_day import one_in
from state_mutants import RIGHT, STATE_MUTANTS

from opbench.conformance.cores import relations
from opbench.conformance.search import search
from opbench.relations import Space

# What such a bug breaks: one of these, whatever the operator.
OF_STATE = (
    "calls-in-a-row", "memory-reused", "gradient-modes", "graphs-apart", "after-a-failed-call", "many-calls", "threads",
    "autocast", "empty-batch", "gradient-layouts", "gradient-subsets", "layouts", "inputs-unchanged", "fresh-output",
    "repeatable", "repeatable-gradients",
)  # fmt: skip
BY_NAME = {one.name: one for one in relations("carafe") if one.name in OF_STATE}


def convicted_by(core, seed=0):
    """A relation that the core breaks, with what it makes of it; None where it keeps them all.

    One example of each comes before many: most bugs show in it.
    """
    for few in (True, False):
        for relation in BY_NAME.values():
            # Of layouts, one in six is the one that matters.
            examples = 1 if few else 60 if relation.name == "layouts" else 12
            done = search(relation, core, Space(), examples=examples, seed=seed, shrink_seconds=0.0)
            if done.finding is not None:
                return relation.name, relation.tier
            if done.fragile:
                return relation.name, "fragile"
    return None


def test_the_relations_of_state_are_all_there():
    assert len(BY_NAME) == len(OF_STATE)
    assert len(STATE_MUTANTS) >= 25


def test_the_right_core_keeps_them_all():
    assert convicted_by(RIGHT["carafe"]) is None


@pytest.mark.parametrize("name", one_in(3, STATE_MUTANTS))
def test_every_bug_of_state_is_found(name, record_property):
    _, core = state_mutants.function(name)
    found = convicted_by(core)
    record_property("mutant", ("state and calls", found))
    assert found, f"{name} ({STATE_MUTANTS[name].description}) survives every relation"
    assert found[1] == STATE_MUTANTS[name].tier


def test_they_are_attributes_to_be_named_on_the_command_line():
    for name in STATE_MUTANTS:
        assert getattr(state_mutants, name).__name__ == "carafe"
        assert getattr(state_mutants, f"dcnv3_{name}").__name__ == "dcnv3"


@pytest.mark.nightly
@pytest.mark.parametrize("operator", ["carafe", "dcnv3"])
@pytest.mark.parametrize("name", STATE_MUTANTS)
def test_every_bug_of_state_is_found_from_the_command_line(name, operator):
    target = f"{Path(state_mutants.__file__)}:{'dcnv3_' if operator == 'dcnv3' else ''}{name}"
    command = [sys.executable, "-m", "opbench", "check", target, "--operator", operator, "--first", "--strict"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 1, done.stdout + done.stderr
    expected = "wrong: " if STATE_MUTANTS[name].tier == "wrong" else "right, but fragile: "
    assert done.stdout.startswith(expected), done.stdout
