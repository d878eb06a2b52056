"""The commands of `nox -s gpu` with CUDA simulated and Triton interpreted: a panel is measured, tests are collected.

The suite's images are a few pixels here, and one panel of it goes the whole way. What tests/gpu holds runs on a device.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from opbench.documents import read

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.nightly

ROOT = Path(__file__).parents[2]
SMALL = "dims = { N = 1, C = 4, H = 3, W = 4 }"
SMALL_IN_GROUPS = "dims = { N = 1, C = 4, H = 3, W = 4, G = 2 }"


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """`command(*words)`: python with these, in whose every process CUDA is simulated."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(
        f"import sys\nsys.path.append({str(Path(__file__).parent)!r})\n"
        "import simulated_cuda\nsimulated_cuda.install()\n"
    )
    path = os.pathsep.join([str(site), str(ROOT), os.environ.get("PYTHONPATH", "")])

    def run(*words, seconds=900):
        return subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """The suite `gpu` with all its tasks, contenders and targets, its images a few pixels."""
    text = (ROOT / "opbench" / "suites" / "gpu.toml").read_text()
    text = re.sub(r"^dims = \{.*G = .*\}$", SMALL_IN_GROUPS, text, flags=re.MULTILINE)
    text = re.sub(r"^dims = \{(?!.*G = ).*\}$", SMALL, text, flags=re.MULTILINE)
    text = text.replace("budget_seconds = 0.6", "budget_seconds = 0.02")
    file = tmp_path_factory.mktemp("suite") / "gpu.toml"
    file.write_text(text)
    return file


def test_a_panel_of_the_suite_is_measured(command, suite, tmp_path):
    only = ("--task", "carafe_core", "--workload", "16x256x80x80", "--dtype", "float32", "--mode", "inference")
    ran = command("-m", "opbench", "run", "--suite", str(suite), *only, "--within", "270", "-o", str(tmp_path / "out"))
    assert "Traceback" not in ran.stderr, ran.stderr[-3000:]
    assert ran.returncode in (0, 1, 2), ran.stdout[-2000:] + ran.stderr[-2000:]
    run = read(tmp_path / "out" / "run.json")
    assert run.environment.gpu == "a simulated device, which is none"
    triton = [record for record in run.records if record.case.implementation == "triton"]
    assert {record.outcome for record in triton} == {"ok"}
    wrong = [(r.case.id, r.outcome, r.message) for r in run.records if r.outcome in ("incorrect", "raised", "crashed")]
    assert not wrong
    assert all(record.case.device == "cuda" for record in run.records)
    timed = {latency.method for record in triton for latency in record.latencies}
    assert timed == {"cuda-events-cold", "cuda-graph-hot"}
    assert (tmp_path / "out" / "report.md").exists()


@pytest.mark.parametrize("marked", ["not alone", "alone"])
def test_all_tests_for_a_device_are_collected(command, marked):
    ran = command("-m", "pytest", "tests/gpu", "-W", "default", "-m", marked, "--collect-only", "-q")
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-2000:]
    assert "no tests" not in ran.stdout
