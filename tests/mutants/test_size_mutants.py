"""Bugs of size: found in process by the walk through sizes, and from the command line with --first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import size_mutants
from by_day import one_in
from size_mutants import RIGHT, SIZE_MUTANTS

from opbench.conformance.cores import relations
from opbench.conformance.walking import WalkExtent, walk
from opbench.relations import Space

WALKS = {name: next(one for one in relations(name) if one.sizes is not None) for name in RIGHT}
NAMES = [
    f"dcnv3_{name}" if operator == "dcnv3" else name for name, one in SIZE_MUTANTS.items() for operator in one.operators
]


def test_there_are_enough_of_them_and_each_is_an_attribute_to_be_named_on_the_command_line():
    assert len(NAMES) >= 40
    for name in NAMES:
        assert getattr(size_mutants, name).__name__ == ("dcnv3" if name.startswith("dcnv3_") else "carafe")


@pytest.mark.parametrize("name", one_in(6, NAMES))
def test_every_bug_of_size_is_found_by_the_walk(name, record_property):
    operator, core = size_mutants.function(name)
    extent = WalkExtent(thin=False, paired=True)
    found = walk(WALKS[operator], core, Space(), extent=extent, seed=0, seconds=60.0, shrink_seconds=0.0).finding
    record_property("mutant", ("sizes", found and found.property))
    assert found, f"{name} ({SIZE_MUTANTS[name.removeprefix('dcnv3_')].description}) survives the walk"


@pytest.mark.nightly
@pytest.mark.parametrize("name", NAMES)
def test_every_bug_of_size_is_found_from_the_command_line(name):
    operator = "dcnv3" if name.startswith("dcnv3_") else "carafe"
    target = f"{Path(size_mutants.__file__)}:{name}"
    command = [sys.executable, "-m", "opbench", "check", target, "--operator", operator, "--first"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.startswith("wrong: "), done.stdout
