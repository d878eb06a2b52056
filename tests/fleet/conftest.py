"""A real local Ray cluster, and the toys of tests/engine on it."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "engine"))

from local_clusters import local_cluster, mixed_nodes
from ray_processes import toy_crews

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
    with toy_crews(ray_cluster) as made:
        yield made
