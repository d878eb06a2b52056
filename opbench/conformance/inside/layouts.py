"""Axes made of parts: in which ways a tensor can hold the parts of another, and the way there and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import combinations
from math import prod

from torch import Tensor

from opbench.anatomy import BATCH, REVERSED, Layout

Lengths = Mapping[str, int]


def parts(layout: Layout) -> tuple[str, ...]:
    """All parts, the slowest first."""
    return tuple(part.removeprefix(REVERSED) for axis in layout for part in axis)


def shape(layout: Layout, lengths: Lengths) -> tuple[int, ...]:
    """The shape of a tensor in this layout."""
    return tuple(prod(lengths[part.removeprefix(REVERSED)] for part in axis) for axis in layout)


def arranged(tensor: Tensor, held: Layout, wanted: Layout, lengths: Lengths) -> Tensor:
    """The tensor in another layout of the same parts."""
    order = parts(held)
    apart = tensor.reshape([lengths[part] for part in order])
    turned = {part for layout in (held, wanted) for axis in layout for part in axis if part.startswith(REVERSED)}
    if turned:
        apart = apart.flip([order.index(part.removeprefix(REVERSED)) for part in turned])
    return apart.permute([order.index(part) for part in parts(wanted)]).reshape(shape(wanted, lengths))


def possible(size: tuple[int, ...], layout: Layout, lengths: Lengths, reversible: tuple[str, ...] = ()) -> list[Layout]:
    """The layouts in which a tensor of shape `size` may hold the parts of `layout`, the one most like it first.

    Parts of length 1 don't show; they go to the front, as images do.
    """
    return _possible(size, layout, tuple((part, lengths[part]) for part in parts(layout)), reversible)


@lru_cache(maxsize=1024)
def _possible(
    size: tuple[int, ...], layout: Layout, each: tuple[tuple[str, int], ...], reversible: tuple[str, ...]
) -> list[Layout]:
    lengths = dict(each)
    order = parts(layout)
    hidden = tuple(part for part in order if lengths[part] == 1)
    shown = tuple(part for part in order if part not in hidden)
    front = tuple(part for part in hidden if part == BATCH) + tuple(part for part in hidden if part != BATCH)
    found = []
    for axes in _split(size, shown, lengths):
        whole = (front + axes[0], *axes[1:]) if axes else (front,)
        found.append(whole)
        turnable = [part for part in reversible if part in shown]
        for count in range(1, len(turnable) + 1):
            found += [
                tuple(tuple(REVERSED + part if part in turned else part for part in axis) for axis in whole)
                for turned in combinations(turnable, count)
            ]
    return sorted(found, key=lambda one: _disorder(parts(one), order) + 2 * str(one).count(REVERSED))


def _split(size: tuple[int, ...], left: tuple[str, ...], lengths: Lengths) -> Iterator[Layout]:
    if not size:
        if not left:
            yield ()
        return
    for axis in _axes(size[0], left, lengths):
        for rest in _split(size[1:], tuple(part for part in left if part not in axis), lengths):
            yield (axis, *rest)


def _axes(length: int, left: tuple[str, ...], lengths: Lengths) -> Iterator[tuple[str, ...]]:
    """Every order of every choice of parts whose lengths multiply to `length`."""
    for count in range(len(left) + 1):
        for chosen in combinations(left, count):
            if prod(lengths[part] for part in chosen) == length:
                yield from _orders(chosen)


def _orders(chosen: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not chosen:
        yield ()
    for index, first in enumerate(chosen):
        for rest in _orders(chosen[:index] + chosen[index + 1 :]):
            yield (first, *rest)


def _disorder(one: tuple[str, ...], order: tuple[str, ...]) -> int:
    """How many pairs of parts are the other way round."""
    places = [order.index(part) for part in one]
    return sum(a > b for a, b in combinations(places, 2))
