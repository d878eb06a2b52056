"""Which machines a run was measured on: the only one, or a fleet's nodes, each with its environment and yardsticks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from opbench.engine.entries import PanelFinished, Surroundings
from opbench.plural import counted
from opbench.schema import Environment, Node, NodeVisit, Yardstick


class Machines(NamedTuple):
    """What a run document says of where it was measured; `nodes` is empty of one machine that is no fleet's."""

    environment: Environment
    yardsticks: tuple[Yardstick, ...]
    nodes: tuple[Node, ...]


def measured_on(nodes: Mapping[str, Surroundings], finished: Mapping[tuple[int, str], PanelFinished]) -> Machines:
    """The machines of a run: what was surveyed, by the names of nodes ("" of the only machine), and the visits.

    Of a fleet the environment is the first node's, from which no other's differs in what times depend on, and a
    yardstick has the samples of every node that measured anything.
    """
    name, first = next(iter(nodes.items()))
    if set(nodes) <= {""}:
        return Machines(first.environment, first.yardsticks, ())
    visits: dict[str, list[NodeVisit]] = {}
    for (process, panel), entry in sorted(finished.items()):
        visits.setdefault(entry.node, []).append(NodeVisit(panel, process, entry.wall_seconds))
    at_work = {node: found for node, found in nodes.items() if node in visits} or {name: first}
    listed = tuple(
        Node(node, found.environment, found.yardsticks, tuple(visits.get(node, ()))) for node, found in at_work.items()
    )
    environment = next(iter(at_work.values())).environment
    details = {**environment.details, "fleet": counted(len(listed), "node")}
    return Machines(replace(environment, details=details), pooled(at_work.values()), listed)


def pooled(found: Iterable[Surroundings]) -> tuple[Yardstick, ...]:
    """Each yardstick with the samples of all machines; what fits the caches of each fits the least of them."""
    by_key: dict[tuple[str, str, str], Yardstick] = {}
    for one in found:
        for yardstick in one.yardsticks:
            key = (yardstick.name, yardstick.device, yardstick.dtype)
            before = by_key.get(key)
            if before is None:
                by_key[key] = yardstick
                continue
            sizes = [size for size in (before.fits_bytes, yardstick.fits_bytes) if size is not None]
            by_key[key] = replace(
                before,
                samples=(*before.samples, *yardstick.samples),
                fits_bytes=min(sizes) if sizes else None,
            )
    return tuple(by_key.values())
