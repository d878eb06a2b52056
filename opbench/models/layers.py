"""Where a network's time and memory go: each layer's share of one evaluation."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from opbench.measure.memory import LiveBytes
from opbench.models.network_case import cored


class LayerShare(msgspec.Struct, frozen=True):
    """One layer in one evaluation of a network; a layer that is called several times is the sum of its calls.

    `peak_bytes` is the most that it holds at once beyond what was alive when it began, its output included; None
    where memory isn't tracked.
    """

    name: str
    kind: str
    seconds: float
    share: float
    peak_bytes: int | None
    changed: bool = False


class Profile(msgspec.Struct, frozen=True):
    """All layers, the slowest first; `outside` is the share of time in no layer: concatenations, sums, indexing."""

    layers: tuple[LayerShare, ...]
    seconds: float
    outside: float


def profile(
    model: nn.Module, x: Tensor, *, changed: Collection[str] = (), rounds: int = 7, track_memory: bool = True
) -> Profile:
    """Evaluates the model `rounds` times with a clock around every layer; medians, so that one disturbance is no share.

    Layers are the modules without parts, and CARAFE and DCNv3 and all in `changed` as one. On CUDA every layer waits
    for the device, so shares are of a model that can't overlap its own work.
    """
    units = dict(_units(model, changed))
    seconds: dict[str, list[float]] = {name: [] for name in units}
    outside: list[float] = []
    peaks: dict[str, int] = {}
    wait: Callable[[], object] = torch.cuda.synchronize if x.device.type == "cuda" else (lambda: None)
    model.eval()
    with torch.no_grad():
        if track_memory:
            peaks = _peaks(model, units, x)
        model(x)
        for _ in range(rounds):
            clock = _Clock(wait)
            handles = [handle for name, module in units.items() for handle in clock.around(name, module)]
            try:
                wait()
                begin = time.perf_counter()
                model(x)
                wait()
                whole = time.perf_counter() - begin
            finally:
                for handle in handles:
                    handle.remove()
            for name, spent in seconds.items():
                spent.append(clock.seconds.get(name, 0.0))
            outside.append(whole - sum(clock.seconds.values()))
    medians = {name: statistics.median(spent) for name, spent in seconds.items()}
    # Of the medians' sum: an interruption hits some layer in every round, and no layer in most of them.
    beyond = max(0.0, statistics.median(outside))
    total = sum(medians.values()) + beyond
    layers = [
        LayerShare(name, type(module).__name__, medians[name], medians[name] / total, peaks.get(name), name in changed)
        for name, module in units.items()
    ]
    layers.sort(key=lambda layer: -layer.seconds)
    return Profile(tuple(layers), total, beyond / total)


def _units(model: nn.Module, changed: Collection[str], name: str = "") -> list[tuple[str, nn.Module]]:
    """The layers below a module, each by its first name."""
    found: dict[int, tuple[str, nn.Module]] = {}
    kinds = tuple(cored())
    for part, module in model.named_children():
        full = f"{name}.{part}" if name else part
        alone = full in changed or isinstance(module, kinds) or not any(True for _ in module.children())
        for child, unit in [(full, module)] if alone else _units(module, changed, full):
            found.setdefault(id(unit), (child, unit))
    return list(found.values())


class _Clock:
    """Seconds inside each layer."""

    def __init__(self, wait: Callable[[], object]) -> None:
        self.wait = wait
        self.seconds: dict[str, float] = {}
        self.began: dict[str, float] = {}

    def around(self, name: str, module: nn.Module) -> list[Any]:
        def before(*_: Any) -> None:
            self.wait()
            self.began[name] = time.perf_counter()

        def after(*_: Any) -> None:
            self.wait()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - self.began[name]

        return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]


def _peaks(model: nn.Module, units: dict[str, nn.Module], x: Tensor) -> dict[str, int]:
    """The most bytes that each layer holds at once beyond those alive when it began."""
    peaks: dict[str, int] = {}
    began: dict[str, int] = {}
    with LiveBytes([x, *model.parameters(), *model.buffers()]) as live:

        def before(name: str) -> None:
            began[name] = live.peak = live.current

        def after(name: str) -> None:
            peaks[name] = max(peaks.get(name, 0), live.peak - began[name])

        handles = [
            handle
            for name, module in units.items()
            for handle in (
                module.register_forward_pre_hook(lambda *_, name=name: before(name)),
                module.register_forward_hook(lambda *_, name=name: after(name)),
            )
        ]
        try:
            model(x)
        finally:
            for handle in handles:
                handle.remove()
    return peaks
