"""A real local Ray cluster, and the toys of tests/engine on it."""

import pytest
from ray_processes import local_cluster, toy_crews


# Of a module: other tests of this process count its children.
@pytest.fixture(scope="module")
def ray_cluster():
    """The address of the head of a cluster of two nodes."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'opbench[ray]'")
    with local_cluster() as address:
        yield address


@pytest.fixture
def toy_crew(ray_cluster):
    """toy_crew(threads=..., share_cpu=...) is a crew on the cluster whose workers are toys, with what it says."""
    with toy_crews(ray_cluster) as made:
        yield made
