"""A core that was found in a forward pass, and what of the pass belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opbench.anatomy import Anatomy, Layout, WrongDefinition
from opbench.conformance.inside.tracing import Place, Trace


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


def spent_by(found: Found, trace: Trace) -> set[Place]:
    """The places of all that a core is made of: what is predicted for it, from what beside its image, and what of it.

    No other core has them.
    """
    predicted = tuple(
        part.place for name, part in found.tensors.items() if name in found.anatomy.predicted and part.place is not None
    )
    image = found.tensors[next(iter(found.anatomy.layouts))].place
    places = trace.before(predicted) - (trace.before((image,)) if image is not None else set())
    if found.output.place is not None:
        towards = trace.before((found.output.place,))
        places = places.union(*(trace.behind(place) & towards for place in predicted))
    return places | set(predicted)
