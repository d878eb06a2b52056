"""`opbench run --executor ray` from the command line, over nodes of several types: what each measures, what is said."""

import os
import signal
import subprocess
import time

import pytest
import toy_suite
from local_clusters import AHEAD

from opbench import __version__
from opbench.documents import read
from opbench.engine.entries import NAME, PanelFinished
from opbench.engine.entries import read as read_journal
from opbench.schema import Run

pytestmark = pytest.mark.nightly


def command(folder, address, *more):
    return toy_suite.command(folder, "--threads", "1", "--executor", "ray", "--address", address, *more)


def suite(folder, workloads=4, seconds=0.3):
    return toy_suite.written(folder, workloads, seconds)


def ended(folder, address, *more):
    return subprocess.run(command(folder, address, *more), capture_output=True, text=True, timeout=300, check=False)


def runs_of(folder):
    """The run documents below a folder by the version of torch that they name."""
    found = {path: read(path, Run) for path in sorted(folder.rglob("run.json"))}
    return {run.environment.versions["torch"]: (path, run) for path, run in found.items()}


def panels_of(run):
    return [panel.id for panel in run.panels]


def test_types_share_a_suite_and_what_differs_is_kept_apart_with_the_reason(mixed_cluster, tmp_path):
    done = ended(suite(tmp_path), mixed_cluster)
    assert done.returncode in (0, 2), done.stdout + done.stderr  # 2: others had the cores all the time
    assert f"is left out: opbench 0.0.1 is installed there, {__version__} here" in done.stderr
    assert f"its clock is {AHEAD} s ahead of this machine's; no time that is measured depends on it" in done.stderr
    (apart,) = (line for line in done.stderr.splitlines() if "kept apart from" in line)
    assert "torch" in apart
    assert "9.9" in apart
    found = runs_of(tmp_path / "out")
    assert len(found) == 2
    (path, newer), (other, here) = found.pop("9.9"), *found.values()
    assert path.parent != other.parent
    assert sorted(panels_of(newer) + panels_of(here)) == [f"toy/w{n}/float32/cpu/inference" for n in range(4)]
    assert all(len(panels_of(run)) == 2 for run in (newer, here)), "what is alike takes as long on both"
    for run in (newer, here):
        (node,) = run.nodes
        assert node.yardsticks == run.yardsticks
        assert sorted(visit.panel for visit in node.visits) == sorted(panels_of(run))


def test_each_accelerator_that_is_asked_for_measures_all_of_the_suite(mixed_cluster, tmp_path):
    done = ended(suite(tmp_path, 2), mixed_cluster, "--accelerator", "H100", "--accelerator", "A100")
    assert done.returncode in (0, 2), done.stdout + done.stderr
    found = runs_of(tmp_path / "out")
    assert len(found) == 2, done.stdout + done.stderr
    assert {len(panels_of(run)) for _, run in found.values()} == {2}


def test_an_accelerator_that_no_node_has_is_said_in_a_sentence_and_nothing_is_measured(mixed_cluster, tmp_path):
    done = ended(suite(tmp_path), mixed_cluster, "--accelerator", "A10")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "--accelerator A10: no node has it; unknown accelerator 'A10'; did you mean 'A100'?" in line
    assert not list((tmp_path / "out").rglob("run.json"))


def finished(folder):
    return [entry for path in folder.rglob(NAME) for entry in read_journal(path)[0] if isinstance(entry, PanelFinished)]


def test_ctrl_c_in_a_terminal_keeps_what_is_done_on_every_type(mixed_cluster, tmp_path):
    """A terminal sends SIGINT to every process of the command's group."""
    suite(tmp_path, 12, seconds=0.5)
    run = subprocess.Popen(
        command(tmp_path, mixed_cluster), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # whatever these tests were started from
    )  # fmt: skip
    until = time.monotonic() + 480
    while len({entry.node for entry in finished(tmp_path / "out")}) < 2 and run.poll() is None:
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=120)
    assert run.returncode == 130, said
    assert "Traceback" not in said
    kept = finished(tmp_path / "out")
    assert 2 <= len(kept) < 12
    assert said.strip().splitlines()[-1].endswith("--resume")
    again = ended(tmp_path, mixed_cluster, "--resume")
    assert again.returncode in (0, 2), again.stdout + again.stderr
    whole = [run for _, run in runs_of(tmp_path / "out").values()]
    assert whole, again.stdout + again.stderr
    measured = [panel for run in whole for panel in panels_of(run)]
    assert sorted(measured) == sorted(f"toy/w{n}/float32/cpu/inference" for n in range(12))
    samples = {
        record.case.id: latency.samples_seconds
        for run in whole
        for record in run.records
        for latency in record.latencies
    }
    for entry in kept:
        for record in entry.records:
            for latency in record.latencies:
                assert samples[record.case.id] == latency.samples_seconds
