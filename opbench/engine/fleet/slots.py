"""The slots of a fleet: where a panel can be measured, one at a time, and who has which.

Unless cores are shared a machine has one slot, which holds all of its CPUs, and two nodes of the cluster that are one
machine take turns. Several node types are measured at once, by a thread each: what they share is behind one lock.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from opbench.documents import encode
from opbench.engine.fleet.cluster import Cluster, ClusterNode
from opbench.engine.fleet.node import NodeSetup
from opbench.engine.log import Write

# A node on which so many actors have ended before they said what it is gets no other.
STARTS_AT_MOST = 3


@dataclass(eq=False)
class Slot:
    """An actor on a node. `surveyed`: its yardsticks are in the journal, and it can be given panels."""

    node: ClusterNode
    number: int
    actor: Any
    surveyed: bool = False
    busy: bool = False

    @property
    def name(self) -> str:
        """Its node's, with its number where the node has several."""
        return f"{self.node.name}.{self.number}" if self.number else self.node.name


class Crew:
    """All slots of a fleet. `wants_gpu`: panels on CUDA may be measured, so that a node with a GPU holds one."""

    def __init__(self, cluster: Cluster, setup: NodeSetup, *, wants_gpu: bool, share_cpu: bool, say: Write) -> None:
        self.cluster, self.say = cluster, say
        self.stopped = threading.Event()
        self._setup, self._wants_gpu, self._share_cpu = setup, wants_gpu, share_cpu
        self._lock = threading.Lock()
        self._slots: dict[tuple[str, int], Slot] = {}
        self._failed: Counter[str] = Counter()
        self._hosts: Counter[str] = Counter()

    def parts(self, node: ClusterNode) -> list[tuple[int, int]]:
        """What each slot of a node holds: (CPUs, GPUs)."""
        cpus, gpus = int(node.cpus), int(node.gpus) if self._wants_gpu else 0
        if not self._share_cpu:
            return [(cpus, min(gpus, 1))]
        threads = self._setup.threads
        slots = gpus or (cpus // threads if isinstance(threads, int) else 1)
        slots = max(1, min(slots, cpus))
        return [(cpus // slots, 1 if gpus else 0)] * slots

    def claim(self, accelerator: str | None, refused: Collection[str] = ()) -> list[Slot]:
        """New slots, each starting, on all nodes with such an accelerator where nobody has one yet."""
        claimed = []
        with self._lock:
            for node in self.cluster.matching(accelerator):
                if node.id in refused or self._failed[node.id] >= STARTS_AT_MOST:
                    continue
                parts = self.parts(node)
                setup = encode(replace(self._setup, slots=len(parts)))
                for number, (cpus, gpus) in enumerate(parts):
                    if (node.id, number) not in self._slots:
                        actor = self.cluster.start(node, setup, cpus=cpus, gpus=gpus)
                        slot = self._slots[node.id, number] = Slot(node, number, actor)
                        claimed.append(slot)
        return claimed

    def release(self, slot: Slot, failed: str = "") -> None:
        """Ends a slot: its node is gone, is wanted no more, or has `failed` to start it."""
        self.cluster.stop(slot.actor)
        with self._lock:
            self._slots.pop((slot.node.id, slot.number), None)
            if failed:
                self._failed[slot.node.id] += 1
                last = self._failed[slot.node.id] >= STARTS_AT_MOST
        if failed:
            self.say(f"node {slot.name} can't be used: {failed}{'; it is left out' if last else ''}")

    def take(self, slot: Slot) -> bool:
        """Whether it may begin to measure: no other slot of its machine does, or cores are shared."""
        with self._lock:
            if slot.busy or (self._hosts[slot.node.host] and not self._share_cpu):
                return False
            slot.busy = True
            self._hosts[slot.node.host] += 1
            return True

    def give_back(self, slot: Slot) -> None:
        """It measures no more."""
        with self._lock:
            if slot.busy:
                slot.busy = False
                self._hosts[slot.node.host] -= 1

    def at_once(self, slots: Collection[Slot]) -> int:
        """How many of them may measure at the same time."""
        return len(slots if self._share_cpu else {slot.node.host for slot in slots})

    def close(self) -> None:
        """Ends every slot."""
        with self._lock:
            slots, self._slots = list(self._slots.values()), {}
        if slots:
            self.cluster.leave([slot.actor for slot in slots])
