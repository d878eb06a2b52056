"""What a slot does to its input, in numbers that training changes: offset spread in pixels, entropy of a kernel.

Read where the operator hands its core the offsets or the kernel: the module's core is replaced by one that looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from opbench.operators.carafe import CARAFE, YoloCARAFE
from opbench.operators.dcnv2 import DCNv2
from opbench.operators.dcnv3.module import ChannelsFirstDCNv3

Quantities = dict[str, float]
Reader = Callable[[Any, tuple[Tensor, ...]], Quantities]

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
    slots: list[tuple[Any, Reader]] = [
        (module, _READERS[type(module)]) for module in network.modules() if type(module) in _READERS
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


def _offsets(pixels: Tensor) -> Quantities:
    """(places, offsets) in pixels."""
    values = pixels.double()
    return {
        "offset spread": values.square().mean().sqrt().item(),
        "offset variation": values.var(0, correction=0).mean().sqrt().item(),
    }


def _dcnv3(slot: Any, arguments: tuple[Tensor, ...]) -> Quantities:
    offset = arguments[1]  # (N, H, W, G*P*2), in units of the layer's offset_scale
    return _offsets(slot.offset_scale * offset.flatten(0, 2))


def _dcnv2(slot: Any, arguments: tuple[Tensor, ...]) -> Quantities:
    offset = arguments[1]  # (N, 2*G*K, H, W)
    return _offsets(offset.movedim(1, -1).flatten(0, 2))


def _entropy(slot: Any, arguments: tuple[Tensor, ...]) -> Quantities:
    """The mask of CARAFE's core (N, g*k*k, 2H, 2W), of one group here."""
    kernels = arguments[1].double()
    bits = -(kernels * kernels.clamp(min=1e-300).log2()).sum(1)
    return {"kernel entropy": bits.mean().item()}


_READERS: Mapping[type, Reader] = {
    CARAFE: _entropy,
    YoloCARAFE: _entropy,
    DCNv2: _dcnv2,
    ChannelsFirstDCNv3: _dcnv3,
}
