"""The search for a core in a recorded forward pass: which of its tensors are the core's, and which is its result.

Tensors of the same values in any order are one candidate, so that views, permutations and reshapes cost nothing. The
definition is evaluated on every combination that the operator's anatomy allows, and its values, sorted, are looked for
among all that the pass has; where they lie, and in which arrangement, is found afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from opbench.anatomy import BATCH, CHANNELS, COLUMNS, OUTPUT, ROWS, Anatomy, Layout, CoreReading, WrongDefinition
from opbench.conformance.inside.layouts import arranged, parts, possible, shape
from opbench.conformance.inside.tracing import INPUT, CallResult, Place, Trace

# Of the largest value: what float32 coordinates in the middle of a float64 pass may cost. Sorted values of different
# functions are never so close.
TOLERANCE = 2e-4
# Tensors in another order are tried, but not all 720 orders of six parts.
LAYOUTS_TRIED = 150
SOME_LAYOUTS = 40
FEW_LAYOUTS = 8
# How unlikely the choice of tensors may be, the places of each among its like added up, to count as likely.
LIKELY = 3


@dataclass(frozen=True)
class Part:
    """A tensor of the core where the pass has it: at a call, or as a parameter; and the layout it has there."""

    layout: Layout
    place: Place | None = None
    parameter: str = ""


@dataclass(frozen=True)
class Found:
    """A core in a forward pass. `wrong` is None where it is the operator's own definition."""

    anatomy: Anatomy
    options: Mapping[str, Any]
    lengths: Mapping[str, int]
    tensors: Mapping[str, Part]
    output: Part
    scrambled: bool = False
    wrong: WrongDefinition | None = None


@dataclass
class _Candidate:
    """All tensors of the pass that hold the same values in some order; `events` in the order of the pass."""

    key: object
    values: Tensor
    events: list[CallResult] = field(default_factory=list)
    parameter: str = ""
    # Bits of the events that were made of it, itself included.
    behind: int = 0
    using: int | None = None


_Combination = tuple[CoreReading, dict[str, _Candidate]]


@dataclass
class Search:
    """A forward pass of `module`, and what it may hold. `misses` are the readings that were tried in vain.

    Each of the steps of a search takes `seconds` at most; where nothing is found, there are eight.
    """

    trace: Trace
    module: nn.Module
    seconds: float
    candidates: dict[int, list[_Candidate]] = field(default_factory=dict)
    misses: list[tuple[CoreReading, dict[str, _Candidate], float]] = field(default_factory=list)
    noting: bool = True

    def __post_init__(self) -> None:
        """Gathers the candidates."""
        known: dict[object, _Candidate] = {}
        for event in self.trace.events:
            if event.value.is_floating_point() and event.value.numel() > 1:
                self._add(known, event.value, event)
        for name, value in self.module.named_parameters():
            if value.ndim >= 2:
                candidate = self._add(known, value.detach(), None)
                candidate.parameter = candidate.parameter or name
        self._follow()

    def _follow(self) -> None:
        """Notes for every candidate which events were made of it."""
        bits = {event.place: 1 << index for index, event in enumerate(self.trace.events)}
        before: dict[Place, int] = {}
        for event in self.trace.events:
            before[event.place] = bits[event.place]
            for place in event.made_of:
                before[event.place] |= before.get(place, 0)
        for one in self._all():
            if one.events:
                first = bits[one.events[0].place]
                one.behind = sum(bits[place] for place, seen in before.items() if seen & first)
        self.bits = bits
        self.counted: dict[int, int] = {}
        for event in self.trace.events:
            self.counted[event.value.numel()] = self.counted.get(event.value.numel(), 0) | bits[event.place]

    def _all(self) -> Iterator[_Candidate]:
        return (one for same in self.candidates.values() for one in same)

    def _add(self, known: dict[object, _Candidate], value: Tensor, event: CallResult | None) -> _Candidate:
        ordered = value.flatten().sort().values
        key = (ordered.numel(), hash(ordered.numpy().tobytes()))
        if key not in known:
            known[key] = _Candidate(key, ordered)
            self.candidates.setdefault(ordered.numel(), []).append(known[key])
        if event is not None:
            known[key].events.append(event)
        return known[key]

    @property
    def images(self) -> list[tuple[int, int]]:
        """The rows and columns that images have in the pass, the input's first."""
        found: dict[tuple[int, int], int] = {}
        for event in self.trace.events:
            if event.value.ndim == 4 and len(event.value) == 1:
                for size in (tuple(event.value.shape[2:]), tuple(event.value.shape[1:3])):
                    if min(size) > 3 and size[0] != size[1]:
                        found[size] = found.get(size, 0) + 1  # type: ignore[index, arg-type]
        return list(found)

    def find(self, anatomy: Anatomy) -> Found | None:
        """The operator's core, else what it is taken for: among the likeliest tensors first, then among the others."""
        likely, others = self._ordered(anatomy)
        likeliest = [one for one in self._ordered(anatomy, (), 0)[0] if not one[0].doubtful]
        doubtful = [one for one in (*likely, *others) if one[0].doubtful]
        likely = [one for one in likely if not one[0].doubtful]
        others = [one for one in others if not one[0].doubtful]
        self.noting = True
        wrong = self._described(anatomy)
        return (
            self._right(anatomy, likeliest, 0, FEW_LAYOUTS)
            or self._wrong(anatomy, wrong, 0, 2)
            or self._right(anatomy, likely, 0, FEW_LAYOUTS)
            or self._right(anatomy, likely, FEW_LAYOUTS, SOME_LAYOUTS)
            or self._right(anatomy, likely, SOME_LAYOUTS, LAYOUTS_TRIED)
            or self._wrong(anatomy, wrong, 2, FEW_LAYOUTS)
            or self._right(anatomy, others, 0, FEW_LAYOUTS)
            or self._right(anatomy, doubtful, 0, FEW_LAYOUTS)
        )

    def find_right(self, anatomy: Anatomy) -> Found | None:
        """The operator's core, where the likeliest tensors are its."""
        self.noting = False
        return self._right(anatomy, self._ordered(anatomy)[0], 0, LAYOUTS_TRIED)

    def _ordered(
        self, anatomy: Anatomy, takes: tuple[str, ...] = (), most: int = LIKELY
    ) -> tuple[list[_Combination], list[_Combination]]:
        """All combinations: those of the likeliest tensors, and the others by how likely they are."""
        ranked = sorted(self._combinations(anatomy, takes), key=lambda one: one[2])
        whole = [(reading, tensors) for reading, tensors, rank in ranked if rank <= most]
        return whole, [(reading, tensors) for reading, tensors, rank in ranked if rank > most]

    def _right(self, anatomy: Anatomy, tried: list[_Combination], start: int, stop: int) -> Found | None:
        end = time.monotonic() + self.seconds
        for reading, tensors in tried:
            if time.monotonic() > end:
                return None
            found = self._matched(anatomy, reading, tensors, anatomy.quick or anatomy.definition, None, start, stop)
            if found is not None:
                return found
        return None

    def _described(self, anatomy: Anatomy) -> dict[tuple[str, ...], list[_Combination]]:
        """The likeliest tensors for each of the wrong definitions, by which of them they take."""
        held: dict[tuple[str, ...], list[_Combination]] = {}
        for wrong in anatomy.wrong:
            if wrong.takes not in held:
                alone = len(wrong.takes) == 1
                held[wrong.takes] = list(self._alone(anatomy) if alone else self._ordered(anatomy, wrong.takes, 0)[0])
        return held

    def _wrong(
        self, anatomy: Anatomy, held: Mapping[tuple[str, ...], list[_Combination]], start: int, stop: int
    ) -> Found | None:
        """One of the wrong definitions that the operator describes."""
        end = time.monotonic() + self.seconds
        for wrong in anatomy.wrong:
            for reading, tensors in held[wrong.takes]:
                if time.monotonic() > end:
                    return None
                found = self._matched(anatomy, reading, tensors, wrong.function, wrong, start, stop)
                if found is not None and (len(wrong.takes) != 1 or self._is_all(found)):
                    return found
        return None

    def _is_all(self, found: Found) -> bool:
        """Whether all that the module returns comes through the result."""
        if not self.trace.returned or found.output.place is None:
            return False
        reached = {(INPUT, 0)}
        for event in self.trace.events:
            if event.place != found.output.place and not reached.isdisjoint(event.made_of):
                reached.add(event.place)
        return reached.isdisjoint(self.trace.returned)

    def _combinations(
        self, anatomy: Anatomy, takes: tuple[str, ...] = ()
    ) -> Iterator[tuple[CoreReading, dict[str, _Candidate], int]]:
        end = time.monotonic() + self.seconds
        counts = set(self.candidates)
        attributes = _attributes(self.module)
        for size in self.images:
            readings = list(anatomy.readings(*size, counts, attributes))
            readings.sort(key=lambda one: sum(attributes.get(name, v) != v for name, v in one.options.items()))
            for reading in readings:
                for x in self._images(anatomy, reading):
                    if time.monotonic() > end:
                        return
                    lengths = {**reading.lengths, CHANNELS: _channels(x, reading)}
                    whole = replace(reading, lengths=lengths)
                    yield from ((whole, *found) for found in self._tensors(anatomy, whole, x, takes))

    def _alone(self, anatomy: Anatomy) -> Iterator[_Combination]:
        """x by itself, at all settings: of a pass that has nothing else of the core's."""
        first = next(iter(anatomy.layouts))
        for size in self.images:
            for reading in anatomy.readings(*size, range(10**9), {}):
                if reading.lengths.get("g", 1) == 1 and not reading.doubtful:
                    for x in self._images(anatomy, reading):
                        lengths = {**reading.lengths, CHANNELS: _channels(x, reading)}
                        yield replace(reading, lengths=lengths), {first: x}

    def _images(self, anatomy: Anatomy, reading: CoreReading) -> list[_Candidate]:
        each = _each(anatomy, reading)
        rows, columns = reading.lengths[ROWS], reading.lengths[COLUMNS]
        found = [
            one
            for count, same in self.candidates.items()
            if count % each == 0
            for one in same
            if one.events and any(_is_image(event.value.shape, rows, columns) for event in one.events)
        ]
        # What the core samples comes late in the pass, but the input is the likeliest of all.
        return sorted(found, key=lambda one: -one.events[0].place[0] if one.events[0].place[0] >= 0 else -(10**9))

    def _tensors(
        self, anatomy: Anatomy, reading: CoreReading, x: _Candidate, takes: tuple[str, ...]
    ) -> Iterator[tuple[dict[str, _Candidate], int]]:
        """Every choice of the other tensors, and how unlikely it is."""
        (first, *others) = takes or tuple(name for name in anatomy.layouts if name != OUTPUT)
        choices = []
        for name in others:
            if name in anatomy.parameters:
                choices.append(self._weights(anatomy, name, reading))
                continue
            count = prod(reading.lengths[part] for part in parts(anatomy.layouts[name]))
            choices.append([one for one in self.candidates.get(count, ()) if one.events and one is not x])
        # The likeliest first: what is normalised as it should be, and what comes first.
        ranks: dict[int, int] = {}
        for name, among in zip(others, choices, strict=True):
            among.sort(key=lambda one: (*_unlike_a_mask(one, anatomy, name, reading), _start(one)))
            ranks |= {id(one): rank for rank, one in enumerate(among) if name not in anatomy.parameters}
        for chosen in product(*choices):
            values = [x, *(one for one, name in zip(chosen, others, strict=True) if name not in anatomy.parameters)]
            weights = [one for one, name in zip(chosen, others, strict=True) if name in anatomy.parameters]
            if self._may_meet(anatomy, reading, values, weights):
                rank = sum(ranks.get(id(one), 0) for one in chosen)
                yield {first: x, **dict(zip(others, chosen, strict=True))}, rank

    def _may_meet(
        self, anatomy: Anatomy, reading: CoreReading, values: Sequence[_Candidate], weights: Sequence[_Candidate]
    ) -> bool:
        """Whether none of what is predicted was made of another, x of none of them, and a result is made of all."""
        x, *predicted = values
        for one in predicted:
            start = self.bits[one.events[0].place]
            if any(other is not one and other.behind & start for other in predicted):
                return False
            if one.behind & self.bits[x.events[0].place]:
                return False
        meeting = self._past(x, predicted)
        for one in predicted:
            meeting &= one.behind
        if not all(meeting & self._using(one) for one in weights):
            return False
        known = [part for part in parts(anatomy.layouts[OUTPUT]) if part in reading.lengths]
        count = prod(reading.lengths[part] for part in known)
        whole = len(known) == len(parts(anatomy.layouts[OUTPUT]))
        return any(
            meeting & seen for size, seen in self.counted.items() if (size == count if whole else size % count == 0)
        )

    def _using(self, weight: _Candidate) -> int:
        """Bits of the calls that take a parameter, as it is or reshaped."""
        if weight.using is None:
            shapes = {event.place for event in weight.events}
            weight.using = sum(
                self.bits[event.place]
                for event in self.trace.events
                if weight.parameter in event.parameters or not shapes.isdisjoint(event.made_of)
            )
        return weight.using

    def _past(self, x: _Candidate, predicted: Sequence[_Candidate]) -> int:
        """Bits of what is made of x otherwise than through what is predicted from it."""
        cut = {event.place for one in predicted for event in one.events}
        reached = {event.place for event in x.events}
        for event in self.trace.events:
            if event.place not in cut and not reached.isdisjoint(event.made_of):
                reached.add(event.place)
        return sum(self.bits[place] for place in reached)

    def _weights(self, anatomy: Anatomy, name: str, reading: CoreReading) -> list[_Candidate]:
        known = prod(reading.lengths.get(part, 1) for part in parts(anatomy.layouts[name]))
        return [one for count, same in self.candidates.items() if count % known == 0 for one in same if one.parameter]

    def _matched(
        self,
        anatomy: Anatomy,
        reading: CoreReading,
        tensors: Mapping[str, _Candidate],
        function: Callable[..., Tensor],
        wrong: WrongDefinition | None,
        start: int,
        stop: int,
    ) -> Found | None:
        """The core if the function of these tensors, in some layout of theirs, has values that the pass has."""
        lengths = _completed(anatomy, reading, tensors)
        if lengths is None:
            return None
        if not self.candidates.get(prod(lengths[part] for part in parts(anatomy.layouts[OUTPUT]))):
            return None
        held = {name: _held(one, anatomy, name, lengths, self.module) for name, one in tensors.items()}
        for places in _by_sum(tuple(len(layouts) for _, layouts in held.values()), stop)[start:]:
            given = {
                name: arranged(value, layouts[place], anatomy.layouts[name], lengths).to(torch.float64)
                for place, (name, (value, layouts)) in zip(places, held.items(), strict=True)
            }
            try:
                out = function(**given, **reading.options)
            except (RuntimeError, ValueError, IndexError):
                continue
            if not bool(out.isfinite().all()) or out.std() == 0:
                continue
            candidate, distance = self._holding(out)
            if candidate is None:
                if wrong is None and self.noting:
                    self.misses.append((reading, dict(tensors), distance))
                continue
            output, scrambled = self._arrangement(candidate, out, anatomy, lengths)
            found = {
                name: self._first(tensors[name], given[name], anatomy.layouts[name], lengths, anatomy.reversible)
                for name in given
            }
            if output is None or any(part is None for part in found.values()):
                continue
            return Found(
                anatomy, reading.options, lengths, {name: part for name, part in found.items() if part}, output,
                scrambled, wrong,
            )  # fmt: skip
        return None

    def _holding(self, out: Tensor) -> tuple[_Candidate | None, float]:
        ordered = out.detach().flatten().sort().values
        scale = _scale(ordered)
        allowed = TOLERANCE * scale
        nearest = float("inf")
        for one in self.candidates.get(ordered.numel(), ()):
            distance = float((one.values.double() - ordered).abs().max())
            nearest = min(nearest, distance)
            if distance <= allowed and one.events:
                return one, 0.0
        return None, nearest / max(scale, 1e-300)

    def _arrangement(
        self, candidate: _Candidate, out: Tensor, anatomy: Anatomy, lengths: Mapping[str, int]
    ) -> tuple[Part | None, bool]:
        """Where the result lies, and whether its pixels ended in other places than an image's."""
        own = anatomy.layouts[OUTPUT]
        allowed = TOLERANCE * _scale(out)
        found = []
        # Values may be moved on into tensors of other rounding; those are other candidates with nearly the same values.
        alike = [
            event
            for one in self.candidates[out.numel()]
            if one is candidate or (one.events and float((one.values - candidate.values).abs().max()) <= allowed)
            for event in one.events
        ]
        alike.sort(key=lambda event: event.place)
        for event in alike:
            for layout in possible(tuple(event.value.shape), own, lengths):
                if (event.value - arranged(out, own, layout, lengths)).abs().max() <= allowed:
                    found.append((event, layout))
                    break
        if not found:
            return None, False
        image = [(event, layout) for event, layout in found if _is_in_order(layout, own, lengths)]
        last = alike[-1]
        scrambled = _looks_like(last, own, lengths) and all(event.place != last.place for event, _ in image)
        event, layout = image[0] if image else found[0]
        return Part(layout, event.place), scrambled

    def _first(
        self, candidate: _Candidate, value: Tensor, own: Layout, lengths: Mapping[str, int], reversible: tuple[str, ...]
    ) -> Part | None:
        """Where these values are first in the pass: from there on all that is made of them follows an exchange."""
        if candidate.parameter and not candidate.events:
            held = dict(self.module.named_parameters())[candidate.parameter].detach()
            return next(
                (
                    Part(layout, parameter=candidate.parameter)
                    for layout in possible(tuple(held.shape), own, lengths, reversible)
                    if torch.equal(arranged(value, own, layout, lengths).to(held), held)
                ),
                None,
            )
        first = candidate.events[0]
        for layout in possible(tuple(first.value.shape), own, lengths, reversible):
            if torch.equal(arranged(value, own, layout, lengths).to(first.value), first.value):
                return Part(layout, first.place)
        return None


def _scale(values: Tensor) -> float:
    """What is an ordinary value: one large one among them excuses nothing."""
    magnitudes = values.detach().abs()
    return float(magnitudes.median()) or float(magnitudes.mean())


def _each(anatomy: Anatomy, reading: CoreReading) -> int:
    first = next(iter(anatomy.layouts))
    return prod(reading.lengths[part] for part in parts(anatomy.layouts[first]) if part != CHANNELS)


def _channels(x: _Candidate, reading: CoreReading) -> int:
    rest = reading.lengths[ROWS] * reading.lengths[COLUMNS] * reading.lengths.get("g", 1) * reading.lengths[BATCH]
    return int(x.values.numel()) // rest


def _completed(anatomy: Anatomy, reading: CoreReading, tensors: Mapping[str, _Candidate]) -> dict[str, int] | None:
    """All lengths: those that only a parameter shows, from its number of elements."""
    lengths = dict(reading.lengths)
    for name in anatomy.parameters:
        unknown = [part for part in parts(anatomy.layouts[name]) if part not in lengths]
        known = prod(lengths[part] for part in parts(anatomy.layouts[name]) if part in lengths)
        if len(unknown) != 1 or tensors[name].values.numel() % known:
            return None
        lengths[unknown[0]] = tensors[name].values.numel() // known
    return lengths


def _held(
    candidate: _Candidate, anatomy: Anatomy, name: str, lengths: Mapping[str, int], module: nn.Module
) -> tuple[Tensor, list[Layout]]:
    """The candidate's values, as the event has them that leaves the least choice, and the layouts they may have."""
    if candidate.parameter and not candidate.events:
        held = [dict(module.named_parameters())[candidate.parameter].detach()]
    else:
        held = [event.value for event in candidate.events]
    own = anatomy.layouts[name]
    each = [(value, possible(tuple(value.shape), own, lengths, anatomy.reversible)) for value in held]
    each = [(value, layouts) for value, layouts in each if layouts]
    return min(each, key=lambda one: len(one[1])) if each else (held[0], [])


@lru_cache(maxsize=256)
def _by_sum(counts: tuple[int, ...], most: int) -> list[tuple[int, ...]]:
    """Choices of one out of each so many, those first that are nearest to the first of all."""
    return sorted(product(*map(range, counts)), key=sum)[:most]


def _is_image(size: torch.Size, rows: int, columns: int) -> bool:
    return len(size) in (3, 4) and len(size) <= 4 and (
        (rows in size and columns in size) or rows * columns in size
    )  # fmt: skip


def _start(candidate: _Candidate) -> int:
    return candidate.events[0].place[0] if candidate.events else -1


def _unlike_a_mask(candidate: _Candidate, anatomy: Anatomy, name: str, reading: CoreReading) -> tuple[bool, bool]:
    return not _sums_to_one(candidate, anatomy, name, reading), bool(candidate.values[0] < 0)


def _sums_to_one(candidate: _Candidate, anatomy: Anatomy, name: str, reading: CoreReading) -> bool:
    """Whether it may be normalised: positive, and its sum is the number of its pixels and groups."""
    over = anatomy.normalised.get(name)
    if not over or bool((candidate.values < 0).any()):
        return False
    taps = prod(reading.lengths[part] for part in over)
    return abs(float(candidate.values.double().sum()) * taps / candidate.values.numel() - 1) < 1e-3


def _is_in_order(layout: Layout, own: Layout, lengths: Mapping[str, int]) -> bool:
    """Whether an axis of the core's own layout is an axis here too: pixels are where they belong."""
    shown = {tuple(part for part in axis if lengths[part] > 1) for axis in layout} - {()}
    wanted = {tuple(part for part in axis if lengths[part] > 1) for axis in own} - {()}
    return shown == wanted


def _looks_like(event: CallResult, own: Layout, lengths: Mapping[str, int]) -> bool:
    """Whether its shape is the output's, channels first or last: whoever reads it takes it for the image."""
    size = [length for length in event.value.shape if length > 1]
    whole = [length for length in shape(own, lengths) if length > 1]
    return sorted(size) == sorted(whole) and len(size) == len(whole)


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Numbers that the module and its parts hold, by name; of a name that several hold, the first."""
    found: dict[str, Any] = {}
    for one in module.modules():
        for name, value in vars(one).items():
            if isinstance(value, (int, float, bool)):
                found.setdefault(name, value)
    return found
