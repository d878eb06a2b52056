"""The cluster as Ray has it: its nodes, what each has, actors on them and what these answer. Only this imports Ray.

An actor holds what is to be exclusive for as long as it lives: all CPUs of its node and, where GPUs are and one is
wanted, one of them. Others' tasks wait meanwhile, or run on other nodes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from opbench.engine.fleet.node import NodeWorker
from opbench.errors import nearest, said
from opbench.schema import OpbenchError

CONNECT_SECONDS = 5.0
# What a process of opbench's is asked for, and nothing of Ray's own tasks.
NAMESPACE = "opbench"
# How long nodes that are wanted no more may take to end what they have started.
LEAVE_SECONDS = 5.0
_ACCELERATOR = "accelerator_type:"


class ClusterNode(NamedTuple):
    """A machine of the cluster as Ray counts it; `host` tells machines apart, of which one may be several nodes."""

    id: str
    host: str
    cpus: float
    gpus: float
    accelerators: tuple[str, ...]

    @property
    def name(self) -> str:
        """As it is called in what people read."""
        return f"{self.host}-{self.id[:6]}"


class NodeGone(Exception):
    """The actor, or the node that it was on, is no more; the text says how Ray knows."""


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """The cluster at HOST:PORT, or the one that runs here. Raises OpbenchError where there is none, or no Ray."""
    try:
        import ray
    except ImportError:
        raise OpbenchError("--executor ray needs Ray: pip install 'opbench[ray]'") from None
    if ray.is_initialized():  # a script's own connection stays
        yield Cluster(ray)
        return
    _refuse_unreachable(address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # an actor without a GPU shall see none
    try:
        ray.init(address or "auto", log_to_driver=False, logging_level=logging.ERROR, namespace=NAMESPACE)
    except Exception as error:  # a version that differs, a session that has ended: Ray has a type for each
        where = f"at {address}" if address else "on this machine"
        raise OpbenchError(
            f"no Ray cluster answers {where} ({said(error, 200)}); start one with `ray start --head`, join "
            "machines with `ray start --address HOST:6379`, and name it with --address HOST:6379"
        ) from error
    try:
        yield Cluster(ray)
    finally:
        ray.shutdown()


def _refuse_unreachable(address: str | None) -> None:
    """Ray itself waits a minute for a port where nobody listens."""
    if not address or address == "auto":
        return
    if "://" in address:
        raise OpbenchError(
            f"--address {address}: expected HOST:PORT; from a machine outside the cluster, send the same command to it "
            "with `ray job submit`"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise OpbenchError(f"--address {address}: expected HOST:PORT, as in 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise OpbenchError(
            f"--address {address}: nobody answers there ({error}); is `ray start --head` running?"
        ) from None


class Cluster:
    """A connection to Ray."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def nodes(self) -> list[ClusterNode]:
        """The nodes that are alive and have CPUs for work."""
        found = []
        for node in self._ray.nodes():
            resources: Mapping[str, float] = node.get("Resources", {})
            if node["Alive"] and resources.get("CPU", 0.0) >= 1:
                kinds = tuple(name.removeprefix(_ACCELERATOR) for name in resources if name.startswith(_ACCELERATOR))
                host = node.get("NodeManagerHostname") or node["NodeManagerAddress"]
                found.append(ClusterNode(node["NodeID"], host, resources["CPU"], resources.get("GPU", 0.0), kinds))
        return found

    def matching(self, accelerator: str | None) -> list[ClusterNode]:
        """The nodes that have an accelerator of this kind; None: every node."""
        return [node for node in self.nodes() if accelerator is None or accelerator in node.accelerators]

    def refuse_missing(self, accelerators: Sequence[str]) -> None:
        """Raises OpbenchError where no node can do any work, or none has an accelerator that was asked for."""
        nodes = self.nodes()
        if not nodes:
            raise OpbenchError("the Ray cluster has no node with a CPU for work; join one: `ray start --address ...`")
        known = {kind for node in nodes for kind in node.accelerators}
        for one in accelerators:
            if one not in known:
                raise OpbenchError(
                    f"--accelerator {one}: no node has it; {nearest('accelerator', one, known)}"
                    if known
                    else f"--accelerator {one}: no node has it, nor any other accelerator ({len(nodes)} nodes)"
                )

    def start(self, node: ClusterNode, setup: bytes, *, cpus: float, gpus: float) -> Any:
        """An actor on this node and no other, with so much of it for itself."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        remote = self._ray.remote(NodeWorker).options(
            num_cpus=cpus,
            num_gpus=gpus,
            max_restarts=0,
            max_concurrency=1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node.id, soft=False),
        )
        return remote.remote(setup)

    def stop(self, actor: Any) -> None:
        """Ends an actor, whatever it does; what it has started ends with it."""
        with contextlib.suppress(Exception):  # it may be gone already, and so may the cluster
            self._ray.kill(actor)

    def leave(self, actors: Sequence[Any]) -> None:
        """Ends actors that have nothing to do: each is given a moment to end what it has started and take its files."""
        with contextlib.suppress(Exception):  # some may be gone already, and so may the cluster
            self._ray.wait([actor.close.remote() for actor in actors], num_returns=len(actors), timeout=LEAVE_SECONDS)
        for actor in actors:
            self.stop(actor)

    def first_ready(self, waited_for: Sequence[Any], seconds: float) -> Any | None:
        """The first of several answers, or streams of answers, that has something; None if nothing came for so long."""
        if not waited_for:
            return None
        ready, _ = self._ray.wait(list(waited_for), num_returns=1, timeout=seconds, fetch_local=False)
        return ready[0] if ready else None

    def answer(self, waited_for: Any) -> bytes | None:
        """What has come of it; of a stream the next part, None at its end.

        Raises `NodeGone`, or what the code there has raised: an OpbenchError as it was, all else as a RuntimeError.
        """
        from ray import exceptions

        try:
            part = next(waited_for) if hasattr(waited_for, "__next__") else waited_for
            found: bytes = self._ray.get(part)
        except StopIteration:
            return None
        except exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, OpbenchError):
                raise OpbenchError(str(cause)) from error
            if isinstance(cause, exceptions.RayError):
                raise NodeGone(_in_a_line(cause)) from error
            raise RuntimeError(f"a node failed, not a contender:\n{error}") from error
        except exceptions.RayError as error:
            raise NodeGone(_in_a_line(error)) from error
        return found


def _in_a_line(error: BaseException) -> str:
    """What Ray says of a loss in pages, in a line; of an actor that failed to start, what it raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return (lines[-1] if "creation task" in lines[0] else lines[0])[:200]
