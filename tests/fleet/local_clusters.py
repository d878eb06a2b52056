"""Clusters of Ray on this machine, whose nodes are raylets of their own and can be made to differ."""

import contextlib
import os

import pytest
from toy_plan import search_path

# Seconds by which the clock of a node of the mixed cluster is ahead.
AHEAD = 90


@contextlib.contextmanager
def local_cluster(*nodes):
    """The address of a head without CPUs and of nodes of one, each a raylet of its own with these arguments."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'opbench[ray]'")
    from ray.cluster_utils import Cluster as LocalCluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = search_path()  # of the raylets' workers; toys are imported there
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    memory = {"object_store_memory": 80 << 20}
    head = LocalCluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    try:
        for node in nodes:
            head.add_node(num_cpus=1, **memory, **node)
        yield head.address
    finally:
        head.shutdown()
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def installed(folder, name, version):
    """A folder for PYTHONPATH in which a package has another version, to whoever asks for it."""
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder


def mixed_nodes(folder):
    """An H100; an A100 with a newer torch, whose clock is ahead; and another H100 with an older opbench."""
    newer = installed(folder / "newer", "torch", "9.9")
    ahead = f"import time\n\nnow = time.time\ntime.time = lambda: now() + {AHEAD}\n"
    (newer / "sitecustomize.py").write_text(ahead)
    older = installed(folder / "older", "opbench", "0.0.1")
    for kind, first in (("H100", ()), ("A100", (newer,)), ("H100", (older,))):
        paths = os.pathsep.join([*map(str, first), search_path()])
        yield {"resources": {f"accelerator_type:{kind}": 1}, "env_vars": {"PYTHONPATH": paths}}
