"""A run killed at any moment: nothing finished is lost, nothing is done twice. Workers here are toys."""

import os
import random
import signal
import subprocess
import sys

import psutil
import pytest
from factory import make_environment
from msgspec.structs import replace
from toy_plan import PANELS, REPLICAS, search_path, toy_plan, toy_run, toy_settings

from opbench.documents import read as read_document
from opbench.engine.journal import NAME, PanelFinished, read
from opbench.engine.supervisor import Supervisor
from opbench.schema import CoreShare, OpbenchError, Target

QUICK_KILLS, ALL_KILLS = 8, 120
LONGEST_WAIT_SECONDS = 1.2


@pytest.fixture(autouse=True)
def found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", search_path())


def finished(folder):
    """What the journal holds, by panel and process."""
    path = folder / NAME
    entries = read(path)[0] if path.exists() else []
    done = [entry for entry in entries if isinstance(entry, PanelFinished)]
    assert len({(entry.replica, entry.panel) for entry in done}) == len(done), "a panel is in the journal twice"
    return {(entry.replica, entry.panel): entry.records for entry in done}


def stamps(records):
    """The number that each sample's first call carries, by case: no two measurements share one."""
    return {record.case.id: [latency.first_call_seconds for latency in record.latencies] for record in records}


def start(folder):
    command = [sys.executable, "-m", "toy_plan", str(folder), "--resume"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def kill_at_random(process, draw):
    """Kills the run, or its worker, at a random moment; False if the run had ended by then."""
    try:
        process.wait(draw.uniform(0.2, LONGEST_WAIT_SECONDS))
    except subprocess.TimeoutExpired:
        pass
    else:
        return False
    victims = [psutil.Process(process.pid)]
    if draw.random() < 0.4:
        victims = victims[0].children(recursive=True) or victims
    for victim in victims:
        victim.kill()
    if victims[0].pid == process.pid:
        process.wait()
    return True


@pytest.mark.parametrize(
    "kills", [QUICK_KILLS, pytest.param(ALL_KILLS, marks=pytest.mark.nightly)], ids=["quick", "thorough"]
)
def test_random_kills_lose_and_double_nothing(tmp_path, kills):
    draw = random.Random(20)
    expected = [case.id for panel in toy_plan(PANELS).panels for case in panel.cases]
    runs = partly = 0
    while kills > 0:
        folder, seen = tmp_path / str(runs), {}
        while True:
            process = start(folder)
            while kills > 0 and kill_at_random(process, draw) and process.poll() is None:
                kills -= 1  # it was the worker: the run goes on
            kills -= process.poll() == -signal.SIGKILL
            _, errors = process.communicate(timeout=120)
            if process.returncode == 0 or ((folder / "run.json").exists() and not (folder / NAME).exists()):
                break
            assert process.returncode == -signal.SIGKILL, errors.decode()
            now = finished(folder)
            assert seen.items() <= now.items(), "a finished panel was lost or measured again"
            partly += 0 < len(now) < len(expected) // 2 * REPLICAS and len(now) > len(seen)
            seen = now
        run = read_document(folder / "run.json")
        assert [record.case.id for record in run.records] == expected
        assert all(len(latency.samples_seconds) == REPLICAS for record in run.records for latency in record.latencies)
        first = {case: stamp for (replica, _), records in seen.items() if replica == 0 for case, stamp in
                 stamps(records).items()}  # fmt: skip
        assert first.items() <= stamps(run.records).items()
        assert not (folder / NAME).exists()
        runs += 1
    assert partly, "no kill fell into the middle of the work: this has shown nothing"


KILLED = """
import sys
from pathlib import Path
from toy_plan import toy_plan, toy_run
toy_run(Path(sys.argv[1]), plan=toy_plan(1, ("ok", "also-ok", "kills-the-run")), resume=True)
"""


def test_a_contender_that_kills_the_run_itself_is_convicted_by_what_the_journal_says(tmp_path):
    kills = 0
    while (
        done := subprocess.run([sys.executable, "-c", KILLED, tmp_path], capture_output=True, check=False)
    ).returncode:
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        kills += 1
        assert kills <= 3, "twice together, once alone"
    run = read_document(tmp_path / "run.json")
    assert kills == 3
    assert [record.outcome for record in run.records] == ["ok", "ok", "crashed"]
    assert run.records[2].message == "the run itself was killed 3 times while this was measured, 1 of them alone"
    assert all(len(latency.samples_seconds) == REPLICAS for record in run.records[:2] for latency in record.latencies)


def test_a_run_that_a_person_ends_convicts_nobody(tmp_path, monkeypatch):
    def ctrl_c(place, work):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Supervisor, "measure", ctrl_c)
        for _ in range(5):
            with pytest.raises(KeyboardInterrupt):
                toy_run(tmp_path, plan=toy_plan(1, ("ok",)), resume=True)
    (record,) = toy_run(tmp_path, plan=toy_plan(1, ("ok",)), resume=True).records
    assert record.outcome == "ok"


def interrupted(folder, after, error=KeyboardInterrupt):
    """A run that ends with `error` before panel number `after`."""

    def progress(done, panel):
        if done == after:
            raise error

    with pytest.raises(error):
        toy_run(folder, progress=progress)


def test_ctrl_c_keeps_what_is_done_and_resuming_repeats_none_of_it(tmp_path):
    interrupted(tmp_path, after=3)
    before = finished(tmp_path)
    assert len(before) == 3
    begun = []
    run = toy_run(tmp_path, resume=True, progress=lambda done, panel: begun.append(done))
    assert begun == list(range(4 * REPLICAS + 1))
    for (replica, panel), records in before.items():
        assert replica == 0
        kept = [record for record in run.records if record.case.panel_id == panel]
        assert stamps(kept) == stamps(records)


def test_a_resumed_run_adds_up_the_time_of_all_its_parts(tmp_path):
    interrupted(tmp_path, after=5)
    run = toy_run(tmp_path, resume=True)
    # The toy worker claims a millisecond of calls per case.
    assert run.called_seconds == pytest.approx(0.001 * 2 * 4 * REPLICAS)
    assert run.wall_seconds > run.called_seconds


def test_a_contender_that_was_lost_is_not_waited_for_again(tmp_path, monkeypatch):
    plan = toy_plan(1, ("ok", "hangs"))
    panel = plan.panels[0]
    with pytest.raises(KeyboardInterrupt):
        toy_run(tmp_path, plan=plan, progress=lambda done, panel: _stop_at(done, 1))
    assert not (tmp_path / "run.json").exists()
    path = tmp_path / NAME
    lines = path.read_bytes().splitlines(keepends=True)
    assert isinstance(read(path)[0][-1], PanelFinished)
    path.write_bytes(b"".join(lines[:-1]))  # as if it had been killed between the loss and the end of the panel
    given, measure = [], Supervisor.measure
    monkeypatch.setattr(
        Supervisor, "measure", lambda place, work: given.append(work.panel.cases) or measure(place, work)
    )
    run = toy_run(tmp_path, plan=plan, resume=True)
    assert [record.outcome for record in run.records] == ["ok", "timed-out"]
    assert [record.case for record in run.records] == list(panel.cases)
    assert given == [panel.cases[:1]] * 2  # the first process without the lost one, and the second without it


def _stop_at(done, last):
    if done == last:
        raise KeyboardInterrupt


def test_a_first_call_that_was_timed_is_not_timed_again(tmp_path, monkeypatch):
    cases = [panel.cases[1] for panel in toy_plan().panels[:2]]
    targets = tuple(Target("first-call-cold", case.task, case.workload, case.contender, at_most=1.0) for case in cases)
    plan = replace(toy_plan(), targets=targets)
    asked, really = [], Supervisor.first_call

    def first_call(place, case):
        asked.append(case)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return really(place, case)

    monkeypatch.setattr(Supervisor, "first_call", first_call)
    with pytest.raises(KeyboardInterrupt):
        toy_run(tmp_path, plan=plan)
    run = toy_run(tmp_path, plan=plan, resume=True)
    assert asked == [cases[0], cases[1], cases[1]]
    assert [first.case for first in run.first_calls] == [case.id for case in cases]


def test_resuming_without_a_journal_begins(tmp_path):
    assert toy_run(tmp_path, resume=True).records


def test_resuming_what_is_finished_is_refused(tmp_path):
    toy_run(tmp_path)
    with pytest.raises(OpbenchError, match=r"run.json is finished; leave --resume out"):
        toy_run(tmp_path, resume=True)


def test_another_suite_is_refused(tmp_path):
    interrupted(tmp_path, after=2)
    with pytest.raises(OpbenchError, match=r"panel .* and 1 more is not what it was"):
        toy_run(tmp_path, plan=toy_plan(2), resume=True)
    with pytest.raises(OpbenchError, match="budget_seconds 1 there, 2 here"):
        toy_run(tmp_path, settings=toy_settings(budget_seconds=2.0), resume=True)


def test_another_machine_is_refused(tmp_path, monkeypatch):
    interrupted(tmp_path, after=2)
    from opbench.engine import surveying

    elsewhere = replace(make_environment(), cpu="Another CPU")
    monkeypatch.setattr(surveying, "differences", lambda before, now: _differences(before, elsewhere))
    with pytest.raises(OpbenchError, match=r"cpu: Example CPU @ 2.10GHz there, Another CPU here"):
        toy_run(tmp_path, resume=True)


def test_another_share_of_the_machine_is_another_place_to_resume_in():
    from opbench.engine.resuming import differences

    before, now = (replace(make_environment(), share=CoreShare(allowed)) for allowed in (2, 1))
    assert differences(before, now) == ["allowed cores 2 -> 1 here"]
    assert differences(make_environment(), now) == []


def _differences(before, now):
    from opbench.engine.resuming import differences

    return differences(before, now)


def test_a_second_run_into_the_same_folder_is_refused_while_the_first_runs(tmp_path):
    refused = []

    def progress(done, panel):
        if done == 1:
            with pytest.raises(OpbenchError, match=f"process {os.getpid()} on .* is writing there"):
                toy_run(tmp_path)
            refused.append(done)

    run = toy_run(tmp_path, progress=progress)
    assert refused
    assert len(run.records) == 8


def test_the_journal_outlives_a_document_that_can_not_be_written(tmp_path, monkeypatch):
    def full(run, path):
        raise OpbenchError(f"{path}: can't be written: No space left on device")

    monkeypatch.setattr("toy_plan.save", full)
    with pytest.raises(OpbenchError, match="No space left"):
        toy_run(tmp_path)
    assert len(finished(tmp_path)) == 4 * REPLICAS
    monkeypatch.undo()
    os.environ["PYTHONPATH"] = search_path()
    assert len(toy_run(tmp_path, resume=True).records) == 8
