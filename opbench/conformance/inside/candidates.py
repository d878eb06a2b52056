"""The tensors of a recorded forward pass: those that hold the same values in any order are one candidate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from opbench.conformance.inside.tracing import INPUT, CallResult, Place, Trace


@dataclass
class CoreCandidate:
    """All tensors of the pass that hold the same values in some order; `events` in the order of the pass."""

    values: Tensor
    events: list[CallResult] = field(default_factory=list)
    parameter: str = ""
    # Bits of the events that were made of it, itself included; and of those that take a parameter.
    behind: int = 0
    used_by: int | None = None

    @property
    def start(self) -> int:
        """The call that first gave it."""
        return self.events[0].place[0] if self.events else -1


class Candidates:
    """The candidates of a pass of `module` by their numbers of elements, and what was made of what.

    Sets of events are integers with one bit for each; `counted` has those of each number of elements.
    """

    def __init__(self, trace: Trace, module: nn.Module) -> None:
        self.trace = trace
        self.module = module
        self.by_count: dict[int, list[CoreCandidate]] = {}
        known: dict[object, CoreCandidate] = {}
        for event in trace.events:
            if event.value.is_floating_point() and event.value.numel() > 1:
                self._add(known, event.value, event)
        for name, value in module.named_parameters():
            if value.ndim >= 2:
                candidate = self._add(known, value.detach(), None)
                candidate.parameter = candidate.parameter or name
        # What depends on the input.
        self.predicted = trace.behind((INPUT, 0))
        self.bits = {event.place: 1 << index for index, event in enumerate(trace.events)}
        self.counted: dict[int, int] = {}
        for event in trace.events:
            self.counted[event.value.numel()] = self.counted.get(event.value.numel(), 0) | self.bits[event.place]
        self._follow()

    def _follow(self) -> None:
        """Notes for every candidate which events were made of it."""
        before: dict[Place, int] = {}
        for event in self.trace.events:
            before[event.place] = self.bits[event.place]
            for place in event.made_of:
                before[event.place] |= before.get(place, 0)
        for one in self._all():
            if one.events:
                first = self.bits[one.events[0].place]
                one.behind = sum(self.bits[place] for place, seen in before.items() if seen & first)

    def _all(self) -> Iterator[CoreCandidate]:
        return (one for same in self.by_count.values() for one in same)

    def _add(self, known: dict[object, CoreCandidate], value: Tensor, event: CallResult | None) -> CoreCandidate:
        ordered = value.flatten().sort().values
        key = (ordered.numel(), hash(ordered.numpy().tobytes()))
        if key not in known:
            known[key] = CoreCandidate(ordered)
            self.by_count.setdefault(ordered.numel(), []).append(known[key])
        if event is not None:
            known[key].events.append(event)
        return known[key]

    @property
    def images(self) -> list[tuple[int, int]]:
        """The rows and columns that images have in the pass, the input's first.

        Squares only where the input is one: most are something else.
        """
        _, *own = self.trace.events[0].value.shape
        square = len(set(own)) < len(own)
        found: dict[tuple[int, int], int] = {}
        for event in self.trace.events:
            if event.value.ndim == 4 and len(event.value) == 1:
                for size in (tuple(event.value.shape[2:]), tuple(event.value.shape[1:3])):
                    if min(size) > 3 and (square or size[0] != size[1]):
                        found[size] = found.get(size, 0) + 1  # type: ignore[index, arg-type]
        return list(found)

    @property
    def attributes(self) -> dict[str, Any]:
        """Numbers that the module and its parts hold, by name; of a name that several hold, the first."""
        found: dict[str, Any] = {}
        for one in self.module.modules():
            for name, value in vars(one).items():
                if isinstance(value, (int, float, bool)):
                    found.setdefault(name, value)
        return found

    def using(self, weight: CoreCandidate) -> int:
        """Bits of the calls that take a parameter, as it is or reshaped."""
        if weight.used_by is None:
            shapes = {event.place for event in weight.events}
            weight.used_by = sum(
                self.bits[event.place]
                for event in self.trace.events
                if weight.parameter in event.parameters or not shapes.isdisjoint(event.made_of)
            )
        return weight.used_by

    def past(self, x: CoreCandidate, predicted: Sequence[CoreCandidate]) -> int:
        """Bits of what is made of x otherwise than through what is predicted from it."""
        cut = {event.place for one in predicted for event in one.events}
        reached = {event.place for event in x.events}
        for event in self.trace.events:
            if event.place not in cut and not reached.isdisjoint(event.made_of):
                reached.add(event.place)
        return sum(self.bits[place] for place in reached)

    def is_all(self, place: Place) -> bool:
        """Whether all that the module returns comes through one event."""
        if not self.trace.returned:
            return False
        reached = {(INPUT, 0)}
        for event in self.trace.events:
            if event.place != place and not reached.isdisjoint(event.made_of):
                reached.add(event.place)
        return reached.isdisjoint(self.trace.returned)
