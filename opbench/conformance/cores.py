"""The cores that `opbench check` knows, and the relations that an operator declares."""

from __future__ import annotations

from pkgutil import resolve_name

from opbench import registry
from opbench.errors import nearest
from opbench.relations import Relation
from opbench.schema import OpbenchError, Operator


def cores() -> dict[str, Operator]:
    """The operators whose cores have a public signature."""
    return {operator.name: operator for operator in registry.every_operator() if operator.core is not None}


def relations(name: str) -> tuple[Relation, ...]:
    """What every core of that name meets."""
    if name not in cores():
        raise OpbenchError(nearest("core", name, cores()))
    return relations_of(cores()[name])


def relations_of(operator: Operator) -> tuple[Relation, ...]:
    """The relations that an operator declares, loaded where it says that they are. OpbenchError for what are none."""
    declared = operator.relations
    try:
        found = declared() if callable(declared) else resolve_name(declared) if declared else ()
    except Exception as error:  # of an operator's own file: anything
        raise OpbenchError(f"operator {operator.name!r}: relations: {type(error).__name__}: {error}") from error
    if not (isinstance(found, tuple) and all(isinstance(relation, Relation) for relation in found)):
        raise OpbenchError(
            f"operator {operator.name!r}: relations: expected a tuple of opbench.relations.Relation, got {found!r}"
        )
    undrawn = [relation.name for relation in found if relation.draws is None]
    if operator.core is not None and undrawn:
        raise OpbenchError(f"operator {operator.name!r}: relations: {undrawn[0]!r} doesn't say what it draws")
    return found
