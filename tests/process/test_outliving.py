"""A process whose work is killed from below goes on, and one that a person ends has ended."""

import os
import signal
import subprocess
import sys
import time

import pytest

WORK = """
import os, signal, sys, time
from opbench.process.outliving import can_fork, outliving
assert can_fork()
print("before")
killed = outliving(lambda sentence: print(sentence, flush=True))
print("work", killed, flush=True)
{work}
"""


def command(work):
    return [sys.executable, "-c", WORK.format(work=work)]


@pytest.mark.parametrize("by", ["SIGKILL", "SIGTERM"])
def test_work_that_is_killed_is_begun_again_until_it_ends_by_itself(by):
    work = f"if killed < 2: os.kill(os.getpid(), signal.{by}); time.sleep(60)\nsys.exit(3)"
    done = subprocess.run(command(work), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 3, done.stderr
    said = f"the run was killed by {by}, from below or outside; it goes on from its journal"
    assert done.stdout.splitlines() == ["before", "work 0", said, "work 1", said, "work 2"]


def test_a_child_can_not_end_the_process_that_waits_by_a_signal_it_may_catch():
    work = (
        "top = os.getppid()\nif os.fork() == 0: os.kill(top, signal.SIGTERM); os._exit(0)\ntime.sleep(1); sys.exit(4)"
    )
    assert subprocess.run(command(work), capture_output=True, check=False, timeout=60).returncode == 4


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_who_ends_the_waiting_process_ends_the_work(sent):
    work = command("print(os.getpid(), flush=True); time.sleep(60)")
    with subprocess.Popen(work, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        lines = [process.stdout.readline() for _ in range(3)]
        process.send_signal(sent)
        assert process.wait(timeout=30) == -sent
    until = time.monotonic() + 10
    while alive(int(lines[-1])) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(int(lines[-1]))


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_process_with_torch_or_threads_is_not_forked():
    code = "import threading, time; from opbench.process.outliving import can_fork; print(can_fork(), end=' ')"
    code += "; threading.Thread(target=time.sleep, args=(1,)).start(); print(can_fork())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "True False\n"


def test_work_that_is_stopped_goes_on():
    work = "if os.fork() == 0: os.kill(os.getppid(), signal.SIGSTOP); os._exit(0)\nos.wait(); sys.exit(5)"
    assert subprocess.run(command(work), capture_output=True, check=False, timeout=60).returncode == 5
