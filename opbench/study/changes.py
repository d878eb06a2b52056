"""What a slot does to its input, in numbers that training changes: offset spread in pixels, entropy of a kernel.

Read where the operator hands its core the offsets or the kernel: the module's core is replaced by one that looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opbench.models.network_case import cored

Reader = Callable[[Any, tuple[Tensor, ...]], Mapping[str, float]]

# Name -> what it means, for whoever prints it.
QUANTITIES: Mapping[str, str] = {
    "offset spread": "root mean square of the offsets' x and y, in pixels of the slot's grid",
    "offset variation": "standard deviation of an offset from place to place and image to image, in pixels of the "
    "slot's grid: the part of the spread that follows the content",
    "kernel entropy": "mean Shannon entropy of the reassembly kernels, in bits; 25 equal taps have 4.64",
}


def slot_quantities(network: nn.Module, x: Tensor) -> dict[tuple[int, str], float]:
    """Slot (1, 2, ...) and quantity -> value, of the network called with x (N, ...) in evaluation mode.

    The network's mode is put back, and nothing else of it changes. Empty where no slot has such quantities.
    """
    known = {kind: one.learnt for kind, one in cored().items() if one.learnt is not None}
    slots: list[tuple[Any, Reader]] = [
        (module, known[kind]) for module in network.modules() for kind in type(module).__mro__ if kind in known
    ]
    seen: list[list[tuple[Tensor, ...]]] = [[] for _ in slots]
    originals = [slot.implementation for slot, _ in slots]
    training = network.training
    try:
        for (slot, _), arguments in zip(slots, seen, strict=True):
            slot.implementation = _looking(slot.implementation, arguments)
        with torch.no_grad():
            network.eval()(x)
    finally:
        for (slot, _), original in zip(slots, originals, strict=True):
            slot.implementation = original
        network.train(training)
    return {
        (number, name): value
        for number, ((slot, reader), calls) in enumerate(zip(slots, seen, strict=True), start=1)
        for name, value in reader(slot, calls[0]).items()
    }


def _looking(core: Callable[..., Tensor], seen: list[tuple[Tensor, ...]]) -> Callable[..., Tensor]:
    def look(*arguments: Tensor, **settings: Any) -> Tensor:
        seen.append(arguments)
        return core(*arguments, **settings)

    return look
