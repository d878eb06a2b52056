"""The run's side of the worker: who is blamed, what is retried, what is left behind. Workers here are toys."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from toy_plan import search_path, toy_plan, toy_run, toy_settings, toy_workplace

from opbench.documents import encode
from opbench.engine.board import FIRST_CALL
from opbench.engine.messages import Began, Ended, Measure, Measured
from opbench.engine.run import execute
from opbench.engine.workplace import Fault, Limits, Workplace, _Watching

POSITION = {"ok": 0, "slow": 1}
PATIENT = Limits(step_seconds=60.0, own_seconds=60.0, memory_bytes=1 << 40)


@pytest.fixture(autouse=True)
def found(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", search_path())


def assignment(*implementations):
    return Measure(toy_plan(1, implementations).panels[0], toy_settings(), memory_bytes=1 << 40)


def outcomes(run):
    return {record.case.implementation: record.outcome for record in run.records}


def children():
    return psutil.Process().children(recursive=True)


def test_one_worker_is_kept_warm_between_panels(tmp_path):
    run = toy_run(tmp_path, settings=toy_settings(replicas=1))
    assert len({record.message for record in run.records}) == 1


def test_every_replica_is_a_fresh_process(tmp_path):
    seen = set()
    with toy_workplace() as place:
        for _ in range(3):
            place.fresh()
            seen |= {record.message for record in place.measure(assignment("ok")).records}
    assert len(seen) == 3


def test_a_fresh_worker_is_not_replaced():
    with toy_workplace() as place:
        first = children()
        place.fresh()
        assert children() == first


def test_a_hang_and_an_exit_cost_their_own_cases(tmp_path):
    run = toy_run(tmp_path, plan=toy_plan(1, ("ok", "hangs", "exit", "also-ok")), settings=toy_settings(replicas=1))
    assert outcomes(run) == {"ok": "ok", "hangs": "timed-out", "exit": "crashed", "also-ok": "ok"}


def test_lines_that_are_no_messages_are_passed_over():
    with toy_workplace() as place:
        assert isinstance(place.measure(assignment("garbles")), Measured)


def test_memory_is_looked_at_from_outside_and_named_with_its_limit():
    limits = Limits(step_seconds=60.0, memory_bytes=1 << 30)
    sizes = iter([1 << 20, 1 << 29, 3 << 29])
    with toy_workplace(limits, look=lambda pid: next(sizes)) as place:
        fault = place.measure(assignment("ok", "hangs"))
    assert (fault.contender, fault.outcome, fault.foreign) == (1, "out-of-memory", False)
    assert fault.message.startswith("killed at 1.50 GiB, where 1.00 GiB are allowed")


def killing(place, implementation, times):
    """A `look` that kills the worker from outside, `times` times, while it is on the first panel's contender."""
    left = [times]

    def look(pid):
        if left[0] and place._board.read()[:2] == (POSITION[implementation], FIRST_CALL):
            left[0] -= 1
            os.kill(pid, signal.SIGKILL)
        return 0

    return look


def killed_run(folder, times):
    """A run whose worker is killed from outside `times` times while it is on the second contender."""
    plan, settings = toy_plan(1, ("ok", "slow", "also-ok")), toy_settings(replicas=1)
    with toy_workplace(PATIENT) as place:
        place._look = killing(place, "slow", times)
        return execute(plan, settings, folder, command="toy", progress=lambda done, panel: None, workplace=place)


def test_a_kill_from_outside_is_told_from_our_own():
    with toy_workplace(PATIENT) as place:
        place._look = killing(place, "ok", 1)
        fault = place.measure(assignment("hangs"))
    assert isinstance(fault, Fault)
    assert (fault.contender, fault.outcome, fault.foreign) == (0, "crashed", True)
    assert "SIGKILL" in fault.message


def test_whoever_was_killed_from_outside_once_is_tried_again(tmp_path):
    run = killed_run(tmp_path, times=1)
    assert outcomes(run) == {"ok": "ok", "slow": "ok", "also-ok": "ok"}


def test_whoever_was_killed_from_outside_twice_is_not(tmp_path):
    run = killed_run(tmp_path, times=2)
    assert outcomes(run) == {"ok": "ok", "slow": "crashed", "also-ok": "ok"}
    assert run.records[1].message.endswith("; the second time")


class SaidBefore:
    """A child of whom only what it says matters."""

    def __init__(self, *messages):
        self.lines = [encode(message) for message in messages]
        self.errors = []

    def line(self, limit):
        return self.lines.pop(0)


def test_the_end_of_an_earlier_worker_is_no_fault_of_this_one():
    measured = Measured((), 0.5)
    child = SaidBefore(Ended(pid=5, code=0), Began(number=3, pid=7), measured)
    with toy_workplace() as place:
        assert _Watching(child, place._board, place, 3).follow() == measured


def test_an_assignment_that_is_no_longer_wanted_is_not_watched():
    measured = Measured((), 0.5)
    child = SaidBefore(Began(number=2, pid=7), Ended(pid=7, code=-9), Began(number=3, pid=8), measured)
    with toy_workplace() as place:
        assert _Watching(child, place._board, place, 3).follow() == measured


def test_a_worker_that_can_not_start_is_opbenchs_own_fault():
    with Workplace(limits=PATIENT, worker="no_such_module") as place, pytest.raises(RuntimeError, match="no_such_mod"):
        place.measure(assignment("ok"))


def test_a_worker_killed_while_idle_is_replaced():
    with toy_workplace() as place:
        first = place.measure(assignment("ok"))
        for child in children():
            child.kill()
            child.wait()
        second = place.measure(assignment("ok"))
    assert first.records[0].message != second.records[0].message


def test_nothing_is_left_running_after_a_run(tmp_path):
    toy_run(tmp_path, plan=toy_plan(1, ("ok", "hangs")), settings=toy_settings(replicas=1))
    assert not children()


def test_the_real_worker_is_a_fork_and_dies_with_its_run(tmp_path):
    # The real worker asks the kernel for it; here, the real one is started and its run killed.
    code = (
        "import os, signal, sys\n"
        "from opbench.engine.workplace import Workplace\n"
        "from opbench.engine.messages import Survey\n"
        "place = Workplace()\n"
        "place.survey(Survey(()))\n"
        "print(place._child.process.pid, place._pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # With as many threads as it likes: the nursery has to notice that numpy's are no danger, and fork all the same.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "OPENBLAS_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=env
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    nursery, worker = map(int, done.stdout.split())
    assert nursery != worker
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and (psutil.pid_exists(nursery) or psutil.pid_exists(worker)):
        time.sleep(0.05)
    assert not psutil.pid_exists(nursery)
    assert not psutil.pid_exists(worker)
