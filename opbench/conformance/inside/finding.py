"""The search for a core in a recorded forward pass: which of its tensors are the core's, and which is its result.

Tensors of the same values in any order are one candidate, so that views, permutations and reshapes cost nothing. The
definition is evaluated on every combination that the operator's anatomy allows, and its values, sorted, are looked for
among all that the pass has; where they lie, and in which arrangement, is found afterwards.

Longer than 300 lines because the steps of the search share its state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from math import prod

import torch
from torch import Tensor, nn

from opbench.anatomy import OUTPUT, Anatomy, CoreReading, Layout, WrongDefinition
from opbench.conformance.inside.candidates import Candidates, CoreCandidate
from opbench.conformance.inside.combining import Combination, Combining
from opbench.conformance.inside.found import Found, Part, spent_by
from opbench.conformance.inside.layouts import arranged, parts, possible, shape
from opbench.conformance.inside.tracing import CallResult, Trace

# Of the largest value: what float32 coordinates in the middle of a float64 pass may cost. Sorted values of different
# functions are never so close.
TOLERANCE = 2e-4
# Tensors in another order are tried, but not all 720 orders of six parts.
LAYOUTS_TRIED = 150
SOME_LAYOUTS = 40
FEW_LAYOUTS = 8
# So many cores of one module are judged; of more the others are like these.
MOST_CORES = 6
# How unlikely the choice of tensors may be, the places of each among its like added up, to count as likely.
LIKELY = 3
# So many steps may take all of their time.
STEPS = 6


@dataclass
class Search:
    """A forward pass of `module`, and what it may hold. `misses` are the readings that were tried in vain.

    Each of the steps of a search takes `seconds` of a core's time at most, however busy the machine is; all of them,
    those of `find_right` too, `STEPS` times that. Where nothing is found, `find` alone takes ten.
    """

    trace: Trace
    module: nn.Module
    seconds: float
    misses: list[tuple[CoreReading, dict[str, CoreCandidate], float]] = field(default_factory=list)
    noting: bool = True

    def __post_init__(self) -> None:
        """Gathers the candidates."""
        self.candidates = Candidates(self.trace, self.module)
        self.combining = Combining(self.candidates, self.seconds)
        self.until = time.thread_time() + STEPS * self.seconds

    def _end(self) -> float:
        return min(time.thread_time() + self.seconds, self.until)

    def find(self, anatomy: Anatomy) -> Found | None:
        """The operator's core, else what it is taken for: among the likeliest tensors first, then among the others."""
        self.noting = True
        likely, others, doubtful = self.combining.ordered(anatomy, LIKELY)
        wrong = self._described(anatomy)
        return (
            self._right(anatomy, wrong[()], 0, FEW_LAYOUTS)
            or self._wrong(anatomy, wrong, 0, 2)
            or self._right(anatomy, likely, 0, FEW_LAYOUTS)
            or self._right(anatomy, likely, FEW_LAYOUTS, SOME_LAYOUTS)
            or self._right(anatomy, likely, SOME_LAYOUTS, LAYOUTS_TRIED)
            or self._wrong(anatomy, wrong, 2, FEW_LAYOUTS)
            or self._wrong(anatomy, {(): likely[len(wrong[()]) :]}, 0, FEW_LAYOUTS)
            or self._wrong(anatomy, wrong, FEW_LAYOUTS, SOME_LAYOUTS)
            or self._right(anatomy, others, 0, FEW_LAYOUTS)
            or self._right(anatomy, doubtful, 0, FEW_LAYOUTS)
        )

    def find_further(self, anatomy: Anatomy, first: Found) -> list[Found]:
        """The other cores of a pass in which one was found: of tensors that none before them has."""
        self.noting = False
        every = [first]
        while len(every) < MOST_CORES:
            self.combining.spent |= spent_by(every[-1], self.trace)
            likely = self._behind_first(self.combining.ordered(anatomy, LIKELY)[0], every)
            # What does without some of the tensors is no second core: much is a plain interpolation.
            wrong: dict[tuple[str, ...], list[Combination]] = {
                (): self._behind_first(self.combining.ordered(anatomy, 0)[0], every)
            }
            found = self._right(anatomy, likely, 0, SOME_LAYOUTS) or self._wrong(anatomy, wrong, 0, FEW_LAYOUTS)
            if found is None:
                break
            every.append(found)
        return every[1:]

    def _behind_first(self, tried: list[Combination], every: list[Found]) -> list[Combination]:
        """Those first whose image comes behind the cores that were found: mostly one core follows the other."""
        before = self.trace.before(tuple(one.output.place for one in every if one.output.place is not None))

        def again(one: Combination) -> bool:
            image = next(iter(one[1].values()))
            return bool(image.events) and image.events[0].place in before

        return sorted(tried, key=again)

    def find_right(self, anatomy: Anatomy) -> Found | None:
        """The operator's core, where the likeliest tensors are its."""
        self.noting = False
        return self._right(anatomy, self.combining.ordered(anatomy, LIKELY)[0], 0, LAYOUTS_TRIED)

    def _right(self, anatomy: Anatomy, tried: list[Combination], start: int, stop: int) -> Found | None:
        end = self._end()
        for reading, tensors in tried:
            if time.thread_time() > end:
                return None
            found = self._matched(anatomy, reading, tensors, anatomy.quick or anatomy.definition, None, start, stop)
            if found is not None:
                return found
        return None

    def _described(self, anatomy: Anatomy) -> dict[tuple[str, ...], list[Combination]]:
        """The likeliest tensors for the definition and each of the wrong ones, by which of them they take."""
        held: dict[tuple[str, ...], list[Combination]] = {(): self.combining.ordered(anatomy, 0)[0]}
        for wrong in anatomy.wrong:
            if wrong.takes not in held:
                alone = len(wrong.takes) == 1
                likely = self.combining.alone(anatomy) if alone else self.combining.ordered(anatomy, 0, wrong.takes)[0]
                held[wrong.takes] = list(likely)
        return held

    def _wrong(
        self, anatomy: Anatomy, held: Mapping[tuple[str, ...], list[Combination]], start: int, stop: int
    ) -> Found | None:
        """One of the wrong definitions that the operator describes."""
        end = self._end()
        # All of them on the likeliest tensors, then on the next.
        tried = sorted(
            (
                (index, number, wrong, one)
                for number, wrong in enumerate(anatomy.wrong)
                for index, one in enumerate(held.get(wrong.takes, ()))
            ),
            key=lambda step: step[:2],
        )
        for _, _, wrong, (reading, tensors) in tried:
            if time.thread_time() > end:
                return None
            found = self._matched(anatomy, reading, tensors, wrong.function, wrong, start, stop)
            if found is not None and (len(wrong.takes) != 1 or self._is_all(found.output)):
                return found
        return None

    def _is_all(self, part: Part) -> bool:
        return part.place is not None and self.candidates.is_all(part.place)

    def _matched(
        self,
        anatomy: Anatomy,
        reading: CoreReading,
        tensors: Mapping[str, CoreCandidate],
        function: Callable[..., Tensor],
        wrong: WrongDefinition | None,
        start: int,
        stop: int,
    ) -> Found | None:
        """The core if the function of these tensors, in some layout of theirs, has values that the pass has."""
        lengths = _completed(anatomy, reading, tensors)
        if lengths is None:
            return None
        if not self.candidates.by_count.get(prod(lengths[part] for part in parts(anatomy.layouts[OUTPUT]))):
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

    def _holding(self, out: Tensor) -> tuple[CoreCandidate | None, float]:
        ordered = out.detach().flatten().sort().values
        scale = _scale(ordered)
        allowed = TOLERANCE * scale
        nearest = float("inf")
        for one in self.candidates.by_count.get(ordered.numel(), ()):
            distance = float((one.values.double() - ordered).abs().max())
            nearest = min(nearest, distance)
            if distance <= allowed and one.events:
                return one, 0.0
        return None, nearest / max(scale, 1e-300)

    def _arrangement(
        self, candidate: CoreCandidate, out: Tensor, anatomy: Anatomy, lengths: Mapping[str, int]
    ) -> tuple[Part | None, bool]:
        """Where the result lies, and whether its pixels ended in other places than an image's."""
        own = anatomy.layouts[OUTPUT]
        allowed = TOLERANCE * _scale(out)
        found = []
        # Values may be moved on into tensors of other rounding; those are other candidates with nearly the same values.
        alike = [
            event
            for one in self.candidates.by_count[out.numel()]
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
        self,
        candidate: CoreCandidate,
        value: Tensor,
        own: Layout,
        lengths: Mapping[str, int],
        reversible: tuple[str, ...],
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


def _completed(anatomy: Anatomy, reading: CoreReading, tensors: Mapping[str, CoreCandidate]) -> dict[str, int] | None:
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
    candidate: CoreCandidate, anatomy: Anatomy, name: str, lengths: Mapping[str, int], module: nn.Module
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
