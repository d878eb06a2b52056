"""A real local Ray cluster, and the toys of tests/engine on it."""

import contextlib
import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "engine"))

from toy_plan import LIMITS, search_path

WORKERS = 2


# Of a module: other tests of this process count its children.
@pytest.fixture(scope="module")
def ray_cluster():
    """A head without CPUs and two nodes of one, each a raylet of its own; the address of the head."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'opbench[ray]'")
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


@pytest.fixture
def toy_crew(ray_cluster):
    """toy_crew(threads=..., share_cpu=...) is a crew on the cluster whose workers are toys, with what it says."""
    from opbench.engine.fleet.cluster import connected
    from opbench.engine.fleet.node import NodeSetup
    from opbench.engine.fleet.slots import Crew

    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(connected(ray_cluster))

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
