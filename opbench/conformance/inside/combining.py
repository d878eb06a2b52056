"""Which tensors of a forward pass may be those of a core, and how likely: by size, and by what was made of what."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from math import prod

import torch

from opbench.anatomy import BATCH, CHANNELS, COLUMNS, OUTPUT, ROWS, Anatomy, CoreReading
from opbench.conformance.inside.candidates import Candidates, CoreCandidate
from opbench.conformance.inside.layouts import parts
from opbench.conformance.inside.tracing import Place

Combination = tuple[CoreReading, dict[str, CoreCandidate]]


class Combining:
    """The combinations of a pass, each kind within about `seconds`.

    No tensor at a place that is `spent` is predicted for a core: it belongs to another one.
    """

    def __init__(self, candidates: Candidates, seconds: float) -> None:
        self.candidates = candidates
        self.seconds = seconds
        self.spent: set[Place] = set()

    def ordered(
        self, anatomy: Anatomy, most: int, takes: tuple[str, ...] = ()
    ) -> tuple[list[Combination], list[Combination], list[Combination]]:
        """Those whose tensors are as likely as `most` allows, the others by how likely they are, and doubtful ones.

        With `takes`, of these tensors alone.
        """
        ranked = sorted(self._combinations(anatomy, takes), key=lambda one: one[2])
        sure = [one for one in ranked if not one[0].doubtful]
        return (
            [(reading, tensors) for reading, tensors, rank in sure if rank <= most],
            [(reading, tensors) for reading, tensors, rank in sure if rank > most],
            [(reading, tensors) for reading, tensors, _ in ranked if reading.doubtful],
        )

    def _combinations(
        self, anatomy: Anatomy, takes: tuple[str, ...] = ()
    ) -> Iterator[tuple[CoreReading, dict[str, CoreCandidate], int]]:
        end = time.thread_time() + self.seconds
        counts = set(self.candidates.by_count)
        attributes = self.candidates.attributes
        for size in self.candidates.images:
            readings = list(anatomy.readings(*size, counts, attributes))
            readings.sort(key=lambda one: sum(attributes.get(name, v) != v for name, v in one.options.items()))
            for reading in readings:
                for x in self._images(anatomy, reading):
                    if time.thread_time() > end:
                        return
                    lengths = {**reading.lengths, CHANNELS: _channels(x, reading)}
                    whole = replace(reading, lengths=lengths)
                    yield from ((whole, *found) for found in self._tensors(anatomy, whole, x, takes))

    def alone(self, anatomy: Anatomy) -> Iterator[Combination]:
        """x by itself, at all settings: of a pass that has nothing else of the core's."""
        first = next(iter(anatomy.layouts))
        for size in self.candidates.images:
            for reading in anatomy.readings(*size, range(10**9), {}):
                if reading.lengths.get("g", 1) == 1 and not reading.doubtful:
                    for x in self._images(anatomy, reading):
                        lengths = {**reading.lengths, CHANNELS: _channels(x, reading)}
                        yield replace(reading, lengths=lengths), {first: x}

    def _images(self, anatomy: Anatomy, reading: CoreReading) -> list[CoreCandidate]:
        each = _each(anatomy, reading)
        rows, columns = reading.lengths[ROWS], reading.lengths[COLUMNS]
        found = [
            one
            for count, same in self.candidates.by_count.items()
            if count % each == 0
            for one in same
            if one.events and any(_is_image(event.value.shape, rows, columns) for event in one.events)
        ]
        # What the core samples comes late in the pass, but the input is the likeliest of all.
        return sorted(found, key=lambda one: -one.events[0].place[0] if one.events[0].place[0] >= 0 else -(10**9))

    def _tensors(
        self, anatomy: Anatomy, reading: CoreReading, x: CoreCandidate, takes: tuple[str, ...]
    ) -> Iterator[tuple[dict[str, CoreCandidate], int]]:
        """Every choice of the other tensors, and how unlikely it is."""
        (first, *others) = takes or tuple(name for name in anatomy.layouts if name != OUTPUT)
        choices = []
        for name in others:
            if name in anatomy.parameters:
                choices.append(self._weights(anatomy, name, reading))
                continue
            count = prod(reading.lengths[part] for part in parts(anatomy.layouts[name]))
            choices.append([one for one in self.candidates.by_count.get(count, ()) if one is not x and self._free(one)])
        # The likeliest first: what is normalised as it should be, and what comes first.
        ranks: dict[int, int] = {}
        for name, among in zip(others, choices, strict=True):
            among.sort(key=lambda one: (self._constant(one), *_unlike_a_mask(one, anatomy, name, reading), one.start))
            ranks |= {id(one): rank for rank, one in enumerate(among) if name not in anatomy.parameters}
        for chosen in product(*choices):
            values = [x, *(one for one, name in zip(chosen, others, strict=True) if name not in anatomy.parameters)]
            weights = [one for one, name in zip(chosen, others, strict=True) if name in anatomy.parameters]
            if self._may_meet(anatomy, reading, values, weights):
                rank = sum(ranks.get(id(one), 0) for one in chosen)
                yield {first: x, **dict(zip(others, chosen, strict=True))}, rank

    def _free(self, one: CoreCandidate) -> bool:
        return bool(one.events) and all(event.place not in self.spent for event in one.events)

    def _constant(self, one: CoreCandidate) -> bool:
        """Whether it is the same for every input: a table, where something should be predicted."""
        return bool(one.events) and one.events[0].place not in self.candidates.predicted

    def _may_meet(
        self, anatomy: Anatomy, reading: CoreReading, values: Sequence[CoreCandidate], weights: Sequence[CoreCandidate]
    ) -> bool:
        """Whether none of what is predicted was made of another, x of none of them, and a result is made of all."""
        x, *predicted = values
        for one in predicted:
            start = self.candidates.bits[one.events[0].place]
            if any(other is not one and other.behind & start for other in predicted):
                return False
            if one.behind & self.candidates.bits[x.events[0].place]:
                return False
        meeting = self.candidates.past(x, predicted)
        for one in predicted:
            meeting &= one.behind
        if not all(meeting & self.candidates.using(one) for one in weights):
            return False
        known = [part for part in parts(anatomy.layouts[OUTPUT]) if part in reading.lengths]
        count = prod(reading.lengths[part] for part in known)
        whole = len(known) == len(parts(anatomy.layouts[OUTPUT]))
        return any(
            meeting & seen
            for size, seen in self.candidates.counted.items()
            if (size == count if whole else size % count == 0)
        )

    def _weights(self, anatomy: Anatomy, name: str, reading: CoreReading) -> list[CoreCandidate]:
        known = prod(reading.lengths.get(part, 1) for part in parts(anatomy.layouts[name]))
        return [
            one
            for count, same in self.candidates.by_count.items()
            if count % known == 0
            for one in same
            if one.parameter
        ]


def _each(anatomy: Anatomy, reading: CoreReading) -> int:
    first = next(iter(anatomy.layouts))
    return prod(reading.lengths[part] for part in parts(anatomy.layouts[first]) if part != CHANNELS)


def _channels(x: CoreCandidate, reading: CoreReading) -> int:
    rest = reading.lengths[ROWS] * reading.lengths[COLUMNS] * reading.lengths.get("g", 1) * reading.lengths[BATCH]
    return int(x.values.numel()) // rest


def _is_image(size: torch.Size, rows: int, columns: int) -> bool:
    return len(size) in (3, 4) and ((rows in size and columns in size) or rows * columns in size)


def _unlike_a_mask(candidate: CoreCandidate, anatomy: Anatomy, name: str, reading: CoreReading) -> tuple[bool, bool]:
    """Of pairs, such as offsets are, neither says anything."""
    pairs = not set(anatomy.reversible).isdisjoint(parts(anatomy.layouts[name]))
    return not _sums_to_one(candidate, anatomy, name, reading), not pairs and bool(candidate.values[0] < 0)


def _sums_to_one(candidate: CoreCandidate, anatomy: Anatomy, name: str, reading: CoreReading) -> bool:
    """Whether it may be normalised: positive, and its sum is the number of its pixels and groups."""
    over = anatomy.normalised.get(name)
    if not over or bool((candidate.values < 0).any()):
        return False
    taps = prod(reading.lengths[part] for part in over)
    return abs(float(candidate.values.double().sum()) * taps / candidate.values.numel() - 1) < 1e-3
