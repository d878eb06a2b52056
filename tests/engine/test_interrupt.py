"""The command line around a run that is stopped: exit codes, what is said, what is left."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from toy_suite import command, written

from opbench.engine.entries import NAME, PanelFinished, read
from opbench.engine.log import NAME as LOG
from opbench.plural import counted


def finished(folder):
    path = folder / "out" / NAME
    return [entry for entry in read(path)[0] if isinstance(entry, PanelFinished)] if path.exists() else []


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that got Ctrl-C after its first panel, and how it ended; then resumed, and how that ended."""
    folder = written(tmp_path_factory.mktemp("stopped"), 3, 0.6)
    first = subprocess.Popen(command(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(finished(folder)) < 1 and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=60)
    kept = finished(folder)
    left = {path.name for path in (folder / "out").iterdir()}
    resumed = subprocess.run(command(folder, "--resume"), capture_output=True, text=True, timeout=120, check=False)
    return folder, first.returncode, said, kept, left, resumed


def test_ctrl_c_has_the_shells_exit_code_and_says_how_to_go_on(stopped):
    folder, code, said, kept, left, _ = stopped
    assert code == 130, said
    assert "Traceback" not in said
    assert f"{counted(len(kept), 'finished panel')} kept in" in said
    resume = said.strip().splitlines()[-1]
    assert resume.startswith("opbench run --suite ")
    assert resume.endswith(f"-o {folder / 'out'} --resume")
    assert left == {NAME, LOG}


def test_the_resumed_run_is_whole_and_repeats_nothing(stopped):
    folder, _, _, kept, _, resumed = stopped
    assert resumed.returncode in (0, 1), resumed.stderr
    document = json.loads((folder / "out" / "run.json").read_text())
    records = {(record["case"]["workload"], record["case"]["implementation"]): record for record in document["records"]}
    assert {workload for workload, _ in records} == {"w0", "w1", "w2"}
    right = records["w1", "also-right"]
    assert len(right["latencies"][0]["samples_seconds"]) == 1
    for entry in kept:
        for record in entry.records:
            for latency in record.latencies:
                now = records[record.case.workload, record.case.implementation]["latencies"]
                assert list(latency.samples_seconds[0]) == now[0]["samples_seconds"][0]
    assert not (folder / "out" / NAME).exists()


def test_resume_needs_a_folder():
    done = subprocess.run(
        [sys.executable, "-m", "opbench", "run", "--resume"], capture_output=True, text=True, check=False,
        env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 2
    assert "--resume needs -o DIR" in done.stderr
