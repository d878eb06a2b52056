"""A target ready to be tried, as the search gets it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from opbench.conformance.findings import Attempted
from opbench.conformance.target import Value
from opbench.relations import Core, Example, Relation
from opbench.schema import DType


@dataclass(frozen=True)
class OtherCore:
    """A further core of the same target, and what is fixed for it."""

    core: Core
    fixed: Mapping[str, Value]


@dataclass(frozen=True)
class Judged:
    """A target ready to be tried: what it is held to, the relations, and what is fixed.

    `others` has, by name, the relations that speak of another core than `core`.
    """

    judged_as: str
    core: Core
    properties: tuple[Relation, ...]
    fixed: Mapping[str, Value]
    dtypes: tuple[DType, ...]
    gate: str | None = None
    words: Collection[str] = ()
    notes: tuple[str, ...] = ()
    shape: Mapping[str, Value] = field(default_factory=dict)
    attempts: tuple[Attempted, ...] = ()
    found: str = ""  # by what the operator was found in a module that does not fit by name, in a sentence
    instead: str = ""  # why it is judged by the core inside it, though its parameters fit by name
    others: Mapping[str, OtherCore] = field(default_factory=dict)
    taken: Callable[[Example], tuple[nn.Module, tuple[Tensor, ...]]] | None = None  # by compilers and exporters

    def held_to(self, relation: str) -> OtherCore:
        """The core that a relation speaks of, and what is fixed for it."""
        return self.others.get(relation) or OtherCore(self.core, self.fixed)
