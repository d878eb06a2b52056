"""What cores found inside a module are held to, and how a module is convicted in a sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from opbench.conformance.cores import cores, relations_of
from opbench.conformance.inside.found import Found
from opbench.conformance.inside.outcome import FurtherCore
from opbench.conformance.inside.undeclared import undeclared_relations
from opbench.conformance.precision import violated
from opbench.relations import Core, Example, Relation, Violation
from opbench.schema import Operator

CORE = "core-inside"
# What a further core of a module is held to; one of the same code only to being one as well.
_OF_FURTHER = ("definition", "definition-gradients", "sizes")
_OF_LIKE = ("definition", "definition-gradients")


def core_relations(operator: Operator, found: Found) -> tuple[Relation, ...]:
    """The relations of the operator's core where it has them, else that it is its definition, however called."""
    named = next((one for one in cores().values() if operator.counting and one.counting is operator.counting), None)
    return relations_of(named) if named is not None else undeclared_relations(found)


def further_relations(operator: Operator, other: FurtherCore, number: int) -> tuple[Relation, ...]:
    """What the core of this number is held to, as `definition@2` and so on; messages say which core it is."""
    kept = _OF_LIKE if other.like else _OF_FURTHER
    told = f"core {number} ({other.place})"

    def saying(check: Callable[[Core, Example], None]) -> Callable[[Core, Example], None]:
        def said(core: Core, call: Example) -> None:
            try:
                check(core, call)
            except Violation as violation:
                raise Violation(f"{told}: {violation}", violation.example, violation.cause) from violation

        return said

    return tuple(
        dataclasses.replace(
            one,
            name=f"{one.name}@{number}",
            statement=f"{told}: {one.statement}",
            check=saying(one.check),
            without_gradients=None if one.without_gradients is None else saying(one.without_gradients),
        )
        for one in core_relations(operator, other.found)
        if one.name in kept
    )


def convicting(statement: str, sentence: str, name: str = CORE) -> tuple[Relation, ...]:
    """A relation that doesn't hold, as the sentence says."""

    def check(core: Core, call: Example) -> None:
        raise Violation(sentence, call)

    return (Relation(name, "bounded", statement, check, lambda space: st.just(Example({}, {}))),)


def namesake(published: str, otherwise: Sequence[str]) -> Relation:
    """What a module is told whose parameters fit a published one by name, and which computes something else of them."""
    cause = f"gives other outputs than {published} from {published}'s own weights"

    def check(core: Core, call: Example) -> None:
        violated(f"it has {'; '.join(otherwise)}", call, cause)

    statement = f"under {published}'s parameter names it computes what {published} computes"
    return Relation("namesake", "bounded", statement, check, lambda space: st.just(Example({}, {})), tier="fragile")
