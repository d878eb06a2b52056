"""Cores found in modules that are right but on images of one row or one column: fragile, and judged on all others.

Positions that are divided by a size less one have no scale there, and many modules guard that by `max(size - 1, 1)`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from torch import Tensor

from opbench.anatomy import COLUMNS, ROWS
from opbench.conformance.inside.found import Found
from opbench.conformance.precision import violated
from opbench.conformance.search import SearchFinding, search
from opbench.relations import Core, Example, Relation, Sizes, Space

CAUSE = "is wrong on images of one row or one column"
STATEMENT = "images of one row or one column are treated like any other"
NAME = "one-row-images"
# The relation that draws no other images.
ABOUT_THEM = "thin-images"
_PROBED = 6
_ORDINARY: Mapping[str, int] = {"H": 6, "W": 7}
_LEAST = 2


def judged_apart(core: Core, found: Found, relations: Sequence[Relation]) -> tuple[Core, tuple[Relation, ...]]:
    """The core and its relations; where it is wrong on such images alone, without them, and a relation that says so."""
    definition = next((one for one in relations if one.name == "definition"), None)
    if definition is None:
        return core, tuple(relations)

    def fault(sizes: Mapping[str, int]) -> SearchFinding | None:
        space = Space("float32", "cpu", {**found.options, **sizes})
        return search(definition, core, space, examples=_PROBED, seed=0, shrink_seconds=0.0).finding

    tried = (fault({name: 1}) for name in _ORDINARY)
    seen = next((one for one in tried if one is not None and _thin(one.example.tensors, found)), None)
    if seen is None or fault(_ORDINARY) is not None:
        return core, tuple(relations)

    def others(**given: Any) -> Tensor:
        if _thin(given, found):
            raise NotImplementedError(f"H or W of 1: it {CAUSE}")
        return core(**given)

    def says(core: Core, call: Example) -> None:
        violated(seen.message, call, CAUSE)

    told = Relation(NAME, "bounded", STATEMENT, says, lambda space: st.just(seen.example), tier="fragile")
    kept = (_from_two_on(one, found) for one in relations if one.name != ABOUT_THEM)
    return others, (*kept, told)


def _thin(given: Mapping[str, Any], found: Found) -> bool:
    """Whether the image among these tensors has one row or one column."""
    image, layout = next(iter(found.anatomy.layouts.items()))
    sides = zip(given[image].shape, layout, strict=False)
    return any(length == 1 and axis in ((ROWS,), (COLUMNS,)) for length, axis in sides)


def _from_two_on(relation: Relation, found: Found) -> Relation:
    """With images of two rows and columns at least."""
    draws = relation.draws
    if relation.sizes is not None:
        return dataclasses.replace(relation, sizes=_sizes_from_two_on(relation.sizes))
    if draws is None:
        return relation
    return dataclasses.replace(
        relation, draws=lambda space: draws(space).filter(lambda call: not _thin(call.tensors, found))
    )


def _sizes_from_two_on(sizes: Sizes) -> Sizes:
    rungs = {
        name: tuple(one for one in values if name not in _ORDINARY or one >= _LEAST)
        for name, values in sizes.rungs.items()
    }

    def completed(asked: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return sizes.completed({**dict.fromkeys(_ORDINARY, _LEAST), **asked})

    return dataclasses.replace(sizes, rungs=rungs, completed=completed)
