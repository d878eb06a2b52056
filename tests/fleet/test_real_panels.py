"""`opbench run --executor ray` with real contenders: what the same command finds on this machine."""

import os
import subprocess
import sys

import pytest

from opbench.analyse.compare.runs import compare
from opbench.documents import read
from opbench.schema import Run

ASKED = ("--suite", "smoke", "--task", "carafe_core", "--mode", "inference", "--budget", "3", "--threads", "1")


def measured(folder, *more):
    command = [sys.executable, "-m", "opbench", "run", *ASKED, *more, "-o", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode in (0, 2), done.stdout + done.stderr  # 2: others had the cores all the time
    return read(folder / "run.json", Run)


@pytest.mark.nightly
def test_the_records_are_those_of_this_machine(ray_cluster, tmp_path):
    there = measured(tmp_path / "there", "--executor", "ray", "--address", ray_cluster)
    here = measured(tmp_path / "here")
    assert [record.case for record in there.records] == [record.case for record in here.records]
    assert there.panels == here.panels
    assert there.skipped == here.skipped
    assert there.settings == here.settings
    for one, other in zip(there.records, here.records, strict=True):
        assert {one.outcome, other.outcome} <= {"ok", "disturbed"}
        assert (one.counts, one.memory) == (other.counts, other.memory)
        assert one.verdict.worst_ratio == other.verdict.worst_ratio
    assert there.environment.threads == here.environment.threads
    assert there.environment.versions == here.environment.versions
    (node,) = there.nodes
    assert node.environment.details["load before"]
    assert {one.name for one in node.yardsticks} == {one.name for one in here.yardsticks}
    # How often the intervals of two runs meet, and those of runs here alone, tests/bench/fleet_speed.py prints.
    compared = compare(here, there)
    assert [row.case for row in compared.rows] == [record.case for record in here.records]
    assert not compared.regressed


@pytest.mark.nightly
def test_a_dry_run_says_what_each_node_type_would_measure_and_how_long(ray_cluster):
    command = [sys.executable, "-m", "opbench", "run", *ASKED, "--executor", "ray", "--address", ray_cluster]
    wide = {**os.environ, "COLUMNS": "200"}  # else the table is folded
    done = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, timeout=400, check=True, env=wide)
    lines = done.stdout.splitlines()
    (header,) = (number for number, line in enumerate(lines) if line.startswith("node type "))
    # Below a rule: its name, no accelerator, two nodes of which one at a time measures, panels, cases and minutes.
    assert lines[header + 2].split()[1:] == ["2", "1", "1", "3", "0.1"], done.stdout
