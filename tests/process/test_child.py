"""The protocol of child processes: what is said arrives, every death has a name, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from answering import Answer, Ask
from dying import DEATHS

from opbench.process.child import Child
from opbench.process.death import Death
from opbench.process.heartbeat import Beat, Heartbeat
from opbench.process.memory import resident_bytes
from opbench.process.patience import Limit
from opbench.process.pool import ChildLostError, Pool
from opbench.schema import OpbenchError

HERE = os.path.dirname(__file__)
ROOT = os.path.dirname(os.path.dirname(HERE))
ANSWERING = ["-m", "answering"]


@pytest.fixture(autouse=True)
def found(monkeypatch):
    known = filter(None, [os.environ.get("PYTHONPATH")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.path.dirname(HERE), ROOT, *known]))


@pytest.fixture
def child():
    with Child[Answer](ANSWERING, Answer) as child:
        yield child


def asked(child, what, seconds=60.0):
    child.send(Ask(what))
    return child.receive(seconds)


def gone(pid, seconds=10.0):
    deadline = time.monotonic() + seconds
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_one_child_answers_again_and_again_with_what_json_lacks(child):
    assert asked(child, "pid") == asked(child, "pid") == Answer(child.process.pid)
    assert asked(child, "infinity").value == float("-inf")


def test_what_is_printed_is_no_message_and_standard_input_is_empty(child):
    assert asked(child, "prints") == Answer(text="read ''")


def test_a_fault_of_the_child_is_raised_by_the_parent_and_costs_no_process(child):
    with pytest.raises(OpbenchError, match=r"^a sentence$"):
        asked(child, "refuses")
    with pytest.raises(RuntimeError, match=r"(?s)a child process failed:.*ValueError: worn out"):
        asked(child, "raises")
    assert asked(child, "pid").value == child.process.pid


def test_every_message_is_a_sign_of_life(child):
    asked(child, "pid")
    child.send(Ask("slow"))
    assert [child.receive(1.0) for _ in range(3)] == [Answer()] * 3


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death.name)
def test_every_death_is_named_and_leaves_nothing(monkeypatch, death):
    death.arrange(monkeypatch)
    with Child[Answer](["-m", "dying"], Answer) as child:
        found = asked(child, "anything", death.seconds)
        assert isinstance(found, Death)
        assert death.said in found.message
        assert not psutil.pid_exists(child.process.pid)
        assert isinstance(asked(child, "anything"), Death), "asked again, the dead say so"


def test_a_kill_from_outside_is_foreign_and_our_own_is_not(child):
    asked(child, "pid")
    os.kill(child.process.pid, signal.SIGKILL)
    found = child.receive(60.0)
    assert (found.kind, found.foreign) == ("crash", True)
    assert found.message == "died with SIGKILL, as a system does that is out of memory"


def test_what_a_child_started_ends_with_it():
    with Child[Answer](ANSWERING, Answer) as child:
        grandchild = int(asked(child, "grandchild").value)
        assert psutil.pid_exists(grandchild)
    assert gone(grandchild)


@pytest.mark.parametrize("left", ["daemon", "daemon and exit"])
def test_a_daemon_that_holds_the_pipes_keeps_nobody_waiting(left):
    began = time.monotonic()
    with Child[Answer](ANSWERING, Answer) as child:
        daemon = int(asked(child, left).value)
        if left == "daemon and exit":
            assert "exit code 3" in child.receive(60.0).message
        assert psutil.pid_exists(daemon)
    assert gone(daemon)
    assert time.monotonic() - began < 30


def test_the_current_folder_is_no_place_to_import_from(tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise ImportError('not the one you wanted')")
    monkeypatch.chdir(tmp_path)
    with Child[Answer](ANSWERING, Answer) as child:
        assert not asked(child, "imports").text.startswith(str(tmp_path))


def test_what_a_child_starts_counts_as_its_memory(child):
    alone = resident_bytes(int(asked(child, "pid").value))
    asked(child, "grandchild")
    deadline = time.monotonic() + 30
    while (found := resident_bytes(child.process.pid)) <= alone and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found > alone


def test_a_limit_is_longer_where_the_machine_is_slow_and_a_pause_does_not_count(monkeypatch):
    monkeypatch.setattr("opbench.process.patience.slowdown", lambda: 3.0)
    limit = Limit(0.0)
    for tenths in range(121):
        assert not limit.reached(4.0, tenths / 10)
    assert not limit.reached(4.0, 1000.0), "nobody looked: this process was stopped, too"
    assert limit.reached(4.0, 1000.1)
    assert limit.why == ", 3.0 times as long on a machine as busy as this"
    monkeypatch.setattr("opbench.process.patience.slowdown", lambda: 1.0)
    limit.heard(1000.1)
    assert limit.reached(0.1, 1000.3)


def test_a_heartbeat_takes_no_standard_stream_s_place():
    code = (
        "import os; os.close(0); os.close(2)\n"
        "from opbench.process.heartbeat import Heartbeat\n"
        "print(Heartbeat.make().file_descriptor)"
    )
    said = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60).stdout
    assert int(said) > 2


def test_a_child_of_a_child_stays_in_the_group_that_is_ended():
    with Child[Answer](ANSWERING, Answer, own_group=False) as child:
        assert os.getpgid(int(asked(child, "pid").value)) == os.getpgid(0)
    with Child[Answer](ANSWERING, Answer) as child:
        assert os.getpgid(int(asked(child, "pid").value)) == child.process.pid


PARENT = """
import sys, time
from answering import Answer, Ask
from opbench.process.child import Child
child = Child(["-m", "answering"], Answer)
child.send(Ask("pid"))
print(int(child.receive(60).value), flush=True)
child.send(Ask("sleeps"))
try:
    child.receive(60)
finally:
    child.stop()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_child_ends_with_its_parent(number):
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("elsewhere the child's next read ends it")
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    parent.send_signal(number)
    _, said = parent.communicate(timeout=60)
    assert gone(pid)
    assert (b"KeyboardInterrupt" in said) == (number == signal.SIGINT), said


def test_a_heartbeat_is_read_without_asking():
    page = Heartbeat.make()
    other = Heartbeat(os.dup(page.file_descriptor))
    assert page.last() == Beat(None, 0, 0, 0)
    other.beat(3, 2)
    assert page.last() == Beat(3, 2, 1, os.getpid())
    other.beat(None, 0)
    assert page.last() == Beat(None, 0, 2, os.getpid())
    other.close()
    page.close()


def test_a_pool_shares_jobs_out_among_its_children():
    with Pool[Answer](ANSWERING, Answer, 2, seconds=60.0) as pool:
        pids = {answer.value for answer in pool.map([Ask("pid")] * 20)}
        assert pids <= {child.process.pid for child in pool._children}


def test_whatever_ends_a_pool_early_ends_its_children_at_once(monkeypatch):
    DEATHS[0].arrange(monkeypatch)
    pool = Pool[Answer](["-m", "dying"], Answer, 2, seconds=600.0)
    began = time.monotonic()
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), pool:
        list(pool.map([Ask("anything")] * 4))
    assert time.monotonic() - began < 30
    assert all(gone(child.process.pid) for child in pool._children)


def test_a_pool_says_how_a_child_was_lost(monkeypatch):
    DEATHS[2].arrange(monkeypatch)
    pool = Pool[Answer](["-m", "dying"], Answer, 2, seconds=60.0)
    with pytest.raises(ChildLostError, match="ended the process, exit code 3"), pool:
        list(pool.map([Ask("anything")] * 3))
