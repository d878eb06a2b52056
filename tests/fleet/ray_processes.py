"""A real local Ray cluster, crews of toys on it, and the processes in which slots live."""

import contextlib
import os
import sys
import time
from pathlib import Path

import psutil

sys.path.append(str(Path(__file__).parents[1] / "engine"))

from toy_plan import LIMITS, search_path

WORKERS = 2


@contextlib.contextmanager
def local_cluster():
    """A head without CPUs and two nodes of one, each a raylet of its own; the address of the head."""
    from ray.cluster_utils import Cluster as LocalCluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = search_path()  # of the raylets' workers; toys are imported there
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    memory = {"object_store_memory": 80 << 20}
    head = LocalCluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    for _ in range(WORKERS):
        head.add_node(num_cpus=1, **memory)
    try:
        yield head.address
    finally:
        head.shutdown()
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


@contextlib.contextmanager
def toy_crews(address):
    """made(threads=..., share_cpu=...) is a crew on the cluster whose workers are toys, with what it says."""
    from opbench.engine.fleet.cluster import connected
    from opbench.engine.fleet.node import NodeSetup
    from opbench.engine.fleet.slots import Crew

    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(connected(address))

        def made(*, share_cpu=True, **setup):
            said = []
            wanted = NodeSetup(
                worker="toy_worker",
                step_seconds=setup.pop("step_seconds", 30.0),
                own_seconds=LIMITS.own_seconds,
                memory_bytes=LIMITS.memory_bytes,
                **setup,
            )
            crew = Crew(cluster, wanted, wants_gpu=False, share_cpu=share_cpu, say=said.append)
            stack.callback(crew.close)
            return crew, said

        yield made


def fleet(crew, workers=None, **more):
    """An executor on so many nodes of the cluster, or on all."""
    from opbench.documents import decode
    from opbench.engine.fleet.executor import RayExecutor
    from opbench.engine.fleet.node import NodeDescribed
    from opbench.engine.fleet.node_types import told_apart

    slots = crew.claim(None)
    waiting = {slot.actor.describe.remote(): slot for slot in slots}
    described = {slot.name: decode(crew.cluster.answer(ref), NodeDescribed) for ref, slot in waiting.items()}
    ((kind, _),) = told_apart({name: found.environment for name, found in described.items()})
    executor = RayExecutor(crew, kind, slots, **more)
    for slot in executor.slots[workers:] if workers else ():
        executor._refused.add(slot.node.id)
        crew.release(slot)
    del executor.slots[workers or len(slots) :]
    return executor


def actors():
    """The processes of Ray in which slots live."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            if "NodeWorker" in " ".join(process.info["cmdline"] or ()):
                found.append(process)
    return found


def wait_for(what, seconds=30.0):
    """Until `what()` is true."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
