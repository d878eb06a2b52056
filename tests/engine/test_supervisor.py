"""The run's side of the worker: who is blamed, what is retried, what is left behind. Workers here are toys."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from toy_plan import search_path, toy_plan, toy_run, toy_settings, toy_supervisor

from opbench.engine.executor import LocalExecutor
from opbench.engine.limits import Fault, WorkerLimits
from opbench.engine.messages import Began, Ended, Measure, PanelMeasured
from opbench.engine.run import execute
from opbench.engine.steps import CaseStep
from opbench.engine.supervisor import Supervisor

POSITION = {"ok": 0, "slow": 1}
PATIENT = WorkerLimits(step_seconds=60.0, own_seconds=60.0, memory_bytes=1 << 40)


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
    with toy_supervisor() as supervisor:
        for _ in range(3):
            supervisor.fresh()
            seen |= {record.message for record in supervisor.measure(assignment("ok")).records}
    assert len(seen) == 3


def test_a_fresh_worker_is_not_replaced():
    with toy_supervisor() as supervisor:
        first = children()
        supervisor.fresh()
        assert children() == first


def test_a_hang_and_an_exit_cost_their_own_cases(tmp_path):
    run = toy_run(tmp_path, plan=toy_plan(1, ("ok", "hangs", "exit", "also-ok")), settings=toy_settings(replicas=1))
    assert outcomes(run) == {"ok": "ok", "hangs": "timed-out", "exit": "crashed", "also-ok": "ok"}


@pytest.mark.parametrize(
    ("name", "outcome", "message"),
    [
        ("hangs", "timed-out", "killed after 0.5 s without a sign of life"),
        ("crashes", "crashed", "died with SIGABRT"),
        ("exit", "crashed", "ended the process, exit code 9"),
        ("floods", "crashed", "killed for 0.00781 GiB of output that is no message"),
        ("fills-memory", "out-of-memory", "GiB (allowed: 0.25 GiB)"),
    ],
)
def test_every_death_of_a_worker_is_named_with_the_step_it_died_in(name, outcome, message):
    limits = WorkerLimits(
        step_seconds=0.5 if name == "hangs" else 60.0, own_seconds=60.0, memory_bytes=1 << 28, output_bytes=1 << 23
    )
    with toy_supervisor(limits) as supervisor:
        fault = supervisor.measure(assignment("ok", name))
        assert (fault.contender, fault.outcome) == (1, outcome)
        assert message in fault.message
        assert fault.message.endswith("while it was built and called for the first time")
        assert isinstance(supervisor.measure(assignment("ok")), PanelMeasured)
    assert not children()


def test_lines_that_are_no_messages_are_passed_over():
    with toy_supervisor() as supervisor:
        assert isinstance(supervisor.measure(assignment("garbles")), PanelMeasured)


def test_memory_is_looked_at_from_outside_and_named_with_its_limit():
    limits = WorkerLimits(step_seconds=60.0, memory_bytes=1 << 30)
    sizes = iter([1 << 20, 1 << 29, 3 << 29])
    with toy_supervisor(limits, look=lambda pid: next(sizes)) as supervisor:
        fault = supervisor.measure(assignment("ok", "hangs"))
    assert (fault.contender, fault.outcome, fault.foreign) == (1, "out-of-memory", False)
    assert fault.message.startswith("killed at 1.50 GiB (allowed: 1.00 GiB)")


def killing(supervisor, implementation, times):
    """A `look` that kills the worker from outside, `times` times, while it is on the first panel's contender."""
    left = [times]

    def look(pid):
        if left[0] and supervisor._heartbeat.last()[:2] == (POSITION[implementation], CaseStep.FIRST_CALL):
            left[0] -= 1
            os.kill(pid, signal.SIGKILL)
        return 0

    return look


def killed_run(folder, times):
    """A run whose worker is killed from outside `times` times while it is on the second contender."""
    plan, settings = toy_plan(1, ("ok", "slow", "also-ok")), toy_settings(replicas=1)
    with toy_supervisor(PATIENT) as supervisor:
        supervisor._look = killing(supervisor, "slow", times)
        executor = LocalExecutor(supervisor)
        return execute(plan, settings, folder, command="toy", progress=lambda done, panel: None, executor=executor)


def test_a_kill_from_outside_is_told_from_our_own():
    with toy_supervisor(PATIENT) as supervisor:
        supervisor._look = killing(supervisor, "ok", 1)
        fault = supervisor.measure(assignment("hangs"))
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
        self.messages = list(messages)

    def poll(self, seconds):
        return self.messages.pop(0)

    def forget_errors(self):
        pass


def followed(supervisor, child, number):
    supervisor._number = number
    return supervisor._follow(child)


def test_the_end_of_an_earlier_worker_is_no_fault_of_this_one():
    measured = PanelMeasured((), 0.5, number=3)
    child = SaidBefore(Ended(pid=5, code=0), Began(number=3, pid=7), measured)
    with toy_supervisor() as supervisor:
        assert followed(supervisor, child, 3) == measured


def test_an_assignment_that_is_no_longer_wanted_is_not_watched():
    measured = PanelMeasured((), 0.5, number=3)
    child = SaidBefore(Began(number=2, pid=7), Ended(pid=7, code=-9), Began(number=3, pid=8), measured)
    with toy_supervisor() as supervisor:
        assert followed(supervisor, child, 3) == measured


def test_a_worker_that_can_not_start_is_opbenchs_own_fault():
    with (
        Supervisor(limits=PATIENT, worker="no_such_module") as supervisor,
        pytest.raises(RuntimeError, match="no_such_mod"),
    ):
        supervisor.measure(assignment("ok"))


def test_a_worker_killed_while_idle_is_replaced():
    with toy_supervisor() as supervisor:
        first = supervisor.measure(assignment("ok"))
        for child in children():
            child.kill()
            child.wait()
        second = supervisor.measure(assignment("ok"))
    assert first.records[0].message != second.records[0].message


def test_nothing_is_left_running_after_a_run(tmp_path):
    toy_run(tmp_path, plan=toy_plan(1, ("ok", "hangs")), settings=toy_settings(replicas=1))
    assert not children()


def test_the_real_worker_is_a_fork_and_dies_with_its_run(tmp_path):
    # The real worker asks the kernel for it; here, the real one is started and its run killed.
    code = (
        "import os, signal, sys\n"
        "from opbench.engine.supervisor import Supervisor\n"
        "from opbench.engine.messages import Survey\n"
        "supervisor = Supervisor()\n"
        "supervisor.survey(Survey(()))\n"
        "print(supervisor._child.process.pid, supervisor._pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # With as many threads as it likes: the server has to notice that numpy's are no danger, and fork all the same.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "OPENBLAS_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=env
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    server, worker = map(int, done.stdout.split())
    assert server != worker
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and (psutil.pid_exists(server) or psutil.pid_exists(worker)):
        time.sleep(0.05)
    assert not psutil.pid_exists(server)
    assert not psutil.pid_exists(worker)
