"""What is wrong with a cluster, or with what is asked of it, is said in a sentence."""

import importlib.metadata
import os
import signal
import socket
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from factory import make_environment
from msgspec.structs import replace

from opbench.engine.fleet import describing
from opbench.engine.fleet import run as fleet
from opbench.engine.fleet.cluster import Cluster, ClusterNode, connected
from opbench.engine.fleet.node import NodeDescribed, NodeSetup
from opbench.engine.fleet.slots import STARTS_AT_MOST, Crew, Slot
from opbench.run_request import RunRequest, check_executor
from opbench.schema import OpbenchError


class FakeRay:
    """A cluster of these nodes."""

    def __init__(self, *resources):
        self._nodes = [
            {"NodeID": f"{number:06d}", "Alive": True, "NodeManagerHostname": f"host{number}", "Resources": found}
            for number, found in enumerate(resources)
        ]

    def nodes(self):
        return self._nodes


def refused(match, act, *arguments):
    with pytest.raises(OpbenchError, match=match):
        act(*arguments)


def enter(address):
    with connected(address):
        pass


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(r"^--executor ray needs Ray: pip install 'opbench\[ray\]'$", enter, None)


def test_an_address_where_nobody_answers_is_told_of_at_once():
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    began = time.monotonic()
    refused(rf"^--address 127.0.0.1:{port}: nobody answers there", enter, f"127.0.0.1:{port}")
    assert time.monotonic() - began < 5
    refused(r"^--address ray://head:10001: expected HOST:PORT; .*ray job submit", enter, "ray://head:10001")
    refused(r"^--address head: expected HOST:PORT, as in 10.0.0.1:6379$", enter, "head")


def test_an_accelerator_that_no_node_has_is_named_with_those_there_are():
    cluster = Cluster(FakeRay({"CPU": 8.0, "GPU": 1.0, "accelerator_type:H100": 1.0}, {"CPU": 4.0}))
    cluster.refuse_missing(["H100"])
    refused(r"^--accelerator H10: no node has it; .*did you mean 'H100'", cluster.refuse_missing, ["H10"])
    none = Cluster(FakeRay({"CPU": 4.0}))
    refused(r"^--accelerator A100: no node has it, nor any other accelerator", none.refuse_missing, ["A100"])
    refused(r"^the Ray cluster has no node with a CPU for work", Cluster(FakeRay({"CPU": 0.0})).refuse_missing, [])


def test_options_of_a_cluster_need_the_executor():
    check_executor(RunRequest(executor="ray", address="head:6379"))
    refused(r"^--accelerator belongs to a cluster: add --executor ray", check_executor, RunRequest(accelerator=("A",)))
    refused(r"^--executor: unknown executor 'rai'; did you mean 'ray'\?", check_executor, RunRequest(executor="rai"))


def test_a_file_that_cannot_be_read_is_not_sent(tmp_path):
    refused("can't be read and sent to the nodes", fleet.node_setup, RunRequest(extensions=(str(tmp_path / "no.py"),)))


def test_the_files_of_a_command_line_go_with_it(tmp_path):
    (tmp_path / "mine.py").write_text("print()")
    (tmp_path / "mine.toml").write_text("title = 'x'")
    asked = RunRequest(
        suite=str(tmp_path / "mine.toml"),
        extensions=(str(tmp_path / "mine.py"),),
        executor="ray",
        accelerator=("H100",),
    )
    setup = fleet.node_setup(asked)
    assert setup.words == ("--suite", "suite/mine.toml", "--with", "with-0/mine.py")
    assert setup.files == {"with-0/mine.py": "print()", "suite/mine.toml": "title = 'x'"}


def described(**versions):
    environment = make_environment()
    environment = replace(environment, versions={**environment.versions, **versions})
    return NodeDescribed(environment, "host", time.time(), None)


def test_a_node_with_another_opbench_is_left_out_and_says_so():
    here = importlib.metadata.version("opbench")
    assert describing._unusable(described(opbench=here)) == ""
    assert describing._unusable(described(opbench="0.0.1")) == f"opbench 0.0.1 is installed there, {here} here"


def test_a_clock_that_is_off_is_told_of():
    assert not list(describing._skew(time.time()))
    (sentence,) = describing._skew(time.time() - 90)
    assert sentence == "its clock is 90 s behind this machine's; no time that is measured depends on it"


def test_ctrl_c_pressed_again_waits_until_every_type_has_kept_what_it_has():
    crew, kept = SimpleNamespace(stopped=threading.Event()), []

    def run_of(number):
        if number:
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)
        assert crew.stopped.wait(10)
        if number:
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.4)
        kept.append(number)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fleet._at_once(run_of, 2, crew)
    assert sorted(kept) == [0, 1]


class Started(Cluster):
    """Starts nothing, and counts."""

    started = ()

    def start(self, node, setup, *, cpus, gpus):
        self.started += ((node.host, cpus, gpus),)
        return object()

    def stop(self, actor):
        pass


GPU_NODE = {"CPU": 16.0, "GPU": 4.0, "accelerator_type:H100": 1.0}


@pytest.mark.parametrize(
    ("share_cpu", "threads", "expected"),
    [
        (False, None, [("host0", 16, 1), ("host1", 8, 0)]),
        (True, None, [("host0", 4, 1)] * 4 + [("host1", 8, 0)]),
        (True, 2, [("host0", 4, 1)] * 4 + [("host1", 2, 0)] * 4),
    ],
)
def test_a_slot_holds_a_whole_node_unless_cores_are_shared(share_cpu, threads, expected):
    cluster = Started(FakeRay(GPU_NODE, {"CPU": 8.0}))
    crew = Crew(cluster, NodeSetup(threads=threads), wants_gpu=True, share_cpu=share_cpu, say=lambda line: None)
    slots = crew.claim(None)
    assert list(cluster.started) == expected
    assert not crew.claim(None), "every node has its slots"
    assert crew.take(slots[0])
    assert not crew.take(slots[0])
    crew.give_back(slots[0])
    assert crew.take(slots[0])


def test_a_node_that_fails_to_start_three_times_is_left_out():
    said = []
    crew = Crew(Started(FakeRay({"CPU": 2.0})), NodeSetup(), wants_gpu=False, share_cpu=False, say=said.append)
    for _ in range(STARTS_AT_MOST):
        (slot,) = crew.claim(None)
        crew.release(slot, failed="no module named opbench")
    assert not crew.claim(None)
    assert said[-1] == "node host0-000000 can't be used: no module named opbench; it is left out"


def test_two_nodes_of_the_cluster_that_are_one_machine_take_turns():
    node = ClusterNode("a", "host", 2.0, 0.0, ())
    for share_cpu in (False, True):
        crew = Crew(Started(FakeRay()), NodeSetup(), wants_gpu=False, share_cpu=share_cpu, say=lambda line: None)
        first, second = Slot(node, 0, None), Slot(node._replace(id="b"), 0, None)
        assert crew.take(first)
        assert crew.take(second) is share_cpu
        assert crew.at_once([first, second]) == (2 if share_cpu else 1)
