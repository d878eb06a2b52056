"""What contenders do to the device costs them alone: one run of the worst of them, as a user starts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from opbench.documents import read

pytestmark = pytest.mark.gpu

HERE = Path(__file__).parent
SUITE = """
[timing]
budget_seconds = 0.2
[[workload]]
task = "carafe_core"
name = "small"
source = "made up"
dims = { N = 1, C = 8, H = 12, W = 12 }
devices = ["cuda"]
modes = ["inference"]
contenders = ["carafe[unfold]", "carafe[shift-add]", "carafe[triton]"]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    (folder / "faults.toml").write_text(SUITE)
    command = ["-m", "opbench", "run", "--suite", str(folder / "faults.toml"), "--with", str(HERE / "breaking.py")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, *command, "-o", str(folder)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    return read(folder / "run.json")


def record(run, implementation):
    (found,) = [record for record in run.records if record.case.implementation == implementation]
    return found


def test_a_lost_context_is_named_and_costs_nobody_else(run):
    found = record(run, "asserts")
    assert found.outcome == "crashed"
    assert "exit code 72" in found.message
    for implementation in ("unfold", "shift-add", "triton"):
        other = record(run, implementation)
        assert other.outcome == "ok", other.message
        assert [latency.method for latency in other.latencies] == ["cuda-events-cold", "cuda-graph-hot"], other.notes


def test_too_much_memory_and_a_wrong_element_are_named(run):
    assert record(run, "floods").outcome == "out-of-memory"
    assert record(run, "wrong").outcome == "incorrect"


def test_what_no_graph_can_hold_is_timed_cold_and_says_why_not_hot(run):
    found = record(run, "asks")
    assert found.outcome == "ok", found.message
    assert [latency.method for latency in found.latencies] == ["cuda-events-cold"]
    assert any(note.startswith("cuda-graph-hot: not timed: ") for note in found.notes)


def test_the_device_is_in_the_environment(run):
    assert run.environment.gpu
    assert "driver" in run.environment.details
