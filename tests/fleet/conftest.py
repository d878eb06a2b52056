"""A real local Ray cluster, and the toys of tests/engine on it."""

import contextlib
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "engine"))

from local_clusters import local_cluster, mixed_nodes
from toy_plan import LIMITS

WORKERS = 2


# Of a module: other tests of this process count its children.
@pytest.fixture(scope="module")
def ray_cluster():
    """Two nodes that are alike."""
    with local_cluster(*[{}] * WORKERS) as address:
        yield address


@pytest.fixture(scope="module")
def mixed_cluster(tmp_path_factory):
    """Three nodes that are not, of which one is left out."""
    with local_cluster(*mixed_nodes(tmp_path_factory.mktemp("mixed"))) as address:
        yield address


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
