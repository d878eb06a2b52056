"""Memory: peak bytes above inputs and parameters, and bytes kept for backward.

On the CPU a dispatch mode watches every storage that torch operations create and when it dies, so the figure is the
same on every machine: no allocator, no page size, no noise. Run on fake tensors the same tracker predicts shapes too
large to run. On CUDA the caching allocator keeps the peak itself.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable
from typing import Any

import msgspec
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from opbench import registry
from opbench.build import Built
from opbench.schema import Memory


def measure_memory(built: Built) -> Memory:
    """Peak and saved bytes of one call of the case; training: forward and backward, gradients included."""
    held = [*built.inputs, *built.module.parameters(), *built.module.buffers()]
    storages = {_key(tensor): tensor.untyped_storage().nbytes() for tensor in held}
    return msgspec.structs.replace(_measure(built), held_bytes=sum(storages.values()))


def _measure(built: Built) -> Memory:
    if built.case.device == "cuda":
        return _cuda(built)
    if unseen := registry.opaque(built.case, built.operator):
        return Memory(
            method="cpu-dispatch",
            peak_bytes=None,
            saved_bytes=None,
            note=f"{unseen} out of sight of torch's dispatcher",
        )
    return track(built)


def track(built: Built, *, predicted: bool = False) -> Memory:
    """The deterministic tracker, on real or (`predicted`) fake tensors."""
    held = [*built.inputs, *built.module.parameters(), *built.module.buffers()]
    if built.grad_output is not None:
        held.append(built.grad_output)
    saved = 0 if built.grad_output is None else _saved(built, held)
    with LiveBytes(held) as live:
        built.call_once()
    method = "fake-dispatch" if predicted else "cpu-dispatch"
    return Memory(method=method, peak_bytes=live.peak, saved_bytes=saved, predicted=predicted)


class LiveBytes(TorchDispatchMode):
    """Tracks the bytes of storages created inside, from creation to death; `peak` is their largest sum."""

    def __init__(self, ignored: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.current = 0
        self.peak = 0
        self._seen: set[int] = {_key(tensor) for tensor in ignored}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor):
                self._watch(value)
        return out

    def _watch(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        size = storage.nbytes()
        self.current += size
        self.peak = max(self.peak, self.current)
        weakref.finalize(storage, self._died, key, size)

    def _died(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.current -= size


def _saved(built: Built, held: Iterable[torch.Tensor]) -> int:
    """Bytes of the distinct storages that autograd keeps for backward, apart from inputs and parameters.

    A pass of its own: the hooks' bookkeeping keeps every saved storage alive and would raise a peak taken with it.
    """
    saved: dict[int, Any] = {_key(tensor): None for tensor in held}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved.setdefault(_key(tensor), tensor.untyped_storage())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        built.module(*built.inputs)
    return sum(storage.nbytes() for storage in saved.values() if storage is not None)


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _cuda(built: Built) -> Memory:
    """Peak from the caching allocator: above what is already held before the call."""
    device = built.inputs[0].device
    held = [*built.inputs, *built.module.parameters(), *built.module.buffers()]
    if built.grad_output is None:
        with torch.inference_mode():
            built.module(*built.inputs)  # workspaces that libraries keep are not this call's
            base = _settled(device)
            built.module(*built.inputs)
        return Memory("cuda-allocator", torch.cuda.max_memory_allocated(device) - base, 0)
    torch.autograd.grad(built.module(*built.inputs), built.leaves(), built.grad_output, allow_unused=True)
    saved = _saved(built, held)
    base = _settled(device)
    output = built.module(*built.inputs)
    torch.autograd.grad(output, built.leaves(), built.grad_output, allow_unused=True)
    return Memory("cuda-allocator", torch.cuda.max_memory_allocated(device) - base, saved)


def _settled(device: torch.device) -> int:
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return int(torch.cuda.memory_allocated(device))
