"""The places of a network that a swap can take: how many of each slot, in which parts, and which are never called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec
from torch import Tensor, nn

from opbench.models.roles import BOTTLENECK, PARTS, roles
from opbench.models.selecting import matching
from opbench.models.sites import copied, evaluate
from opbench.models.slots import SLOTS

Names = tuple[str, ...]
# Of a network that doesn't say what its parts are.
NO_PART = "no part"


class PlacesOfSlot(msgspec.Struct, frozen=True):
    """How many places of a slot a network has: in each part, inside bottlenecks, and called by no evaluation."""

    slot: str
    total: int
    parts: dict[str, int]
    bottleneck: int
    uncalled: int = 0


def places_of(model: nn.Module, x: Tensor | None = None) -> tuple[PlacesOfSlot, ...]:
    """Of each slot that the model has a place of. `x` (N, C, H, W), given, finds those that an evaluation calls.

    >>> places_of(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Upsample(scale_factor=2)))[0].slot
    'upsample'
    """
    found = {slot: [] if slot_is_another(model, slot) else matching(model, slot) for slot in SLOTS}
    used = called(model, [names[0] for places in found.values() for names in places], x) if x is not None else None
    known = roles(model)

    def of(slot: str, places: Sequence[Names]) -> PlacesOfSlot:
        inside = counted(places, known)
        return PlacesOfSlot(
            slot=slot,
            total=len(places),
            parts={part: inside[part] for part in (*PARTS, NO_PART) if inside[part]},
            bottleneck=inside[BOTTLENECK],
            uncalled=0 if used is None else sum(names[0] not in used for names in places),
        )

    return tuple(of(slot, places) for slot, places in found.items() if places)


def slot_is_another(model: nn.Module, slot: str) -> bool:
    """Whether the slot has no module of its own in the model, where its name stands for another slot's."""
    return not any(SLOTS[slot](name, module) for name, module in model.named_modules() if name)


def counted(places: Sequence[Names], known: Mapping[str, Collection[str]]) -> Counter[str]:
    """How many of the places have each role, and how many belong to no part."""
    return Counter(
        one for names in places for one in (*known[names[0]], *([NO_PART] if not {*PARTS} & {*known[names[0]]} else []))
    )


def called(model: nn.Module, names: Sequence[str], x: Tensor) -> frozenset[str]:
    """Which of the modules one evaluation of a copy of the model calls."""
    heard: set[str] = set()

    def note(name: str) -> Callable[..., None]:
        return lambda *_: heard.add(name)

    with copied(model) as twin:
        for name in names:
            twin.get_submodule(name).register_forward_pre_hook(note(name))
        evaluate(twin, ((x,), {}))
    return frozenset(heard)
