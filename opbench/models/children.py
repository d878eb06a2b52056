"""Where a network's time and memory go: the share of each of its named children.

Children are the modules that a call of the network reaches first: those of `nn.Sequential`, `nn.ModuleList` and of
wrappers with a single child are looked through, so that a YOLOv8's children are its 23 lines of YAML.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from opbench.measure.memory import LiveBytes

ROUNDS = 9
REST = "(rest)"


@dataclass(frozen=True)
class Part:
    """One named child of a network in one forward call.

    `seconds` is the median over rounds, `share` the median of its share of each round's whole call: rounds drift,
    shares hardly do. `peak_bytes`: how far live memory rose inside it above what lived when it began. `saved_bytes`:
    what autograd keeps of it for backward, apart from inputs and parameters; a tensor that two children keep is the
    first one's. A child that is called twice has both calls in one.
    """

    name: str
    kind: str
    params: int
    seconds: float
    share: float
    peak_bytes: int
    saved_bytes: int


def children(network: nn.Module, *inputs: Tensor, rounds: int = ROUNDS) -> tuple[Part, ...]:
    """The children of `network` in order of their first call on `inputs`, and `(rest)`: what is in none of them.

    Timed without gradients, in the network's own mode (train or eval); in training mode batch norms update their
    statistics. Raises ValueError for fewer than one round, or a network on another device.
    """
    if rounds < 1:
        raise ValueError(f"rounds: expected at least 1, got {rounds}")
    devices = {value.device.type for value in (*inputs, *network.parameters())}
    if devices - {"cpu"}:
        raise ValueError(f"children are timed on the CPU, got a network on {', '.join(sorted(devices))}: move it there")
    named = _children(network)
    timed = _times(network, inputs, named, rounds)
    peaks = _peaks(network, inputs, named)
    saved = _saved(network, inputs, named)
    held = {id(value) for child in named.values() for value in child.parameters()}
    params = {name: sum(value.numel() for value in child.parameters()) for name, child in named.items()}
    params[REST] = sum(value.numel() for value in network.parameters() if id(value) not in held)
    return tuple(
        Part(
            name=name,
            kind=type(named[name]).__name__ if name in named else "",
            params=params[name],
            seconds=statistics.median(round_[name] for round_ in timed),
            share=statistics.median(round_[name] / sum(round_.values()) for round_ in timed),
            peak_bytes=peaks.get(name, 0),
            saved_bytes=saved.get(name, 0),
        )
        for name in timed[0]
    )


def _children(network: nn.Module, prefix: str = "") -> dict[str, nn.Module]:
    found = dict(network.named_children())
    while len(found) == 1:  # a wrapper
        ((name, child),) = found.items()
        prefix = f"{prefix}{name}."
        if not (inner := dict(child.named_children())):
            return {prefix[:-1]: child}
        found = inner
    named: dict[str, nn.Module] = {}
    for name, child in found.items():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            named |= {f"{prefix}{name}.{key}": value for key, value in child.named_children()}
        else:
            named[f"{prefix}{name}"] = child
    return named


@contextmanager
def _around(
    children: dict[str, nn.Module], before: Callable[[str], None], after: Callable[[str], None]
) -> Iterator[None]:
    """Calls `before` and `after` each child's call."""

    def entering(name: str) -> Callable[..., None]:
        return lambda module, inputs: before(name)

    def leaving(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: after(name)

    handles: list[Any] = []
    for name, child in children.items():
        handles += [child.register_forward_pre_hook(entering(name)), child.register_forward_hook(leaving(name))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _times(
    network: nn.Module, inputs: tuple[Tensor, ...], children: dict[str, nn.Module], rounds: int
) -> list[dict[str, float]]:
    """Seconds of each child of each round, and of the rest; the first call, which warms up, is no round."""
    found: list[dict[str, float]] = []
    current: dict[str, float] = {}
    began: dict[str, float] = {}

    def before(name: str) -> None:
        began[name] = time.perf_counter()

    def after(name: str) -> None:
        current[name] = current.get(name, 0.0) + time.perf_counter() - began[name]

    # Not inference mode: a head keeps its anchors, and tensors made in that mode can't be differentiated through later.
    with torch.no_grad(), _around(children, before, after):
        for _ in range(rounds + 1):
            current.clear()
            begin = time.perf_counter()
            network(*inputs)
            whole = time.perf_counter() - begin
            found.append({**current, REST: max(0.0, whole - sum(current.values()))})
    return found[1:]


def _peaks(network: nn.Module, inputs: tuple[Tensor, ...], children: dict[str, nn.Module]) -> dict[str, int]:
    """Deterministic: storages as torch's dispatcher sees them come and go."""
    found: dict[str, int] = {}
    began: dict[str, int] = {}
    live = LiveBytes([*inputs, *network.parameters(), *network.buffers()])

    def before(name: str) -> None:
        began[name] = live.peak = live.current

    def after(name: str) -> None:
        found[name] = max(found.get(name, 0), live.peak - began[name])

    with torch.no_grad(), live, _around(children, before, after):
        network(*inputs)
    return found


def _saved(network: nn.Module, inputs: tuple[Tensor, ...], children: dict[str, nn.Module]) -> dict[str, int]:
    """Bytes of the distinct storages that autograd keeps, by the child that kept them first."""
    held = (*inputs, *network.parameters(), *network.buffers())
    kept: dict[int, Any] = {value.untyped_storage()._cdata: None for value in held}
    found: dict[str, int] = {}
    inside = [REST]

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in kept:
            kept[storage._cdata] = storage  # alive, so that no other gets its address
            found[inside[-1]] = found.get(inside[-1], 0) + storage.nbytes()
        return tensor

    with (
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        _around(children, inside.append, lambda name: inside.remove(name)),
    ):
        network(*inputs)
    return found
