"""Crews of toys on a local Ray cluster, and the processes in which slots live."""

import contextlib
import time

import psutil
from toy_plan import LIMITS


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
