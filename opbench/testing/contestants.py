"""Whose cases a test goes through: contenders that are declared, or a core or a module of the tester's own."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from opbench import registry
from opbench.conformance.modules import difference, shapes
from opbench.schema import Implementation, OpbenchError, Operator


class Contestant(NamedTuple):
    """`operator[implementation]` in a task."""

    task: str
    name: str


def contestants(
    operator: str | Operator,
    core: Callable[..., torch.Tensor] | None = None,
    module: Callable[[Mapping[str, Any]], torch.nn.Module] | None = None,
    name: str = "",
    task: str = "",
) -> list[Contestant]:
    """What `opbench.testing.cases` speaks of; a core or a module is declared, and competes from here on.

    Raises OpbenchError for an operator or a task that isn't known, and for a name that another has.
    """
    if set(name) & set("/[]"):
        raise OpbenchError(f"name: expected a word without / [ ], got {name!r}")
    if core is not None and module is not None:
        raise OpbenchError("core and module: give one of them")
    implementation = ""
    if isinstance(operator, Operator):
        found = [_declared(operator)]
    else:
        operator, _, implementation = operator.removesuffix("]").partition("[")
        found = _named(operator, task)
    if implementation and (core or module):
        raise OpbenchError(f"{operator}[{implementation}] is an implementation already: leave core and module out")
    if core is not None:
        inside = [one for one in found if one.core is not None]
        return [_with_core(one, core, name) for one in (inside if inside and not task else found)]
    if module is not None:
        return [_with_module(one, module, name) for one in found if task or one.core is None]
    if implementation:
        found = [one for one in found if implementation in one.implementations]
        if not found:
            raise OpbenchError(f"operator {operator!r} has no implementation {implementation!r} here")
    return [
        Contestant(one.task, f"{one.name}[{each}]")
        for one in found
        for each in ([implementation] if implementation else one.implementations)
    ]


def _named(name: str, task: str) -> list[Operator]:
    """The operators of that name: a core and its module go by one, and it may stand in several slots."""
    if task:
        return [registry.operator(task, name)]
    found = [one for one in registry.every_operator() if one.name == name]
    if not found:
        raise OpbenchError(registry.unknown_operator("operator", name, {one.name for one in registry.every_operator()}))
    return found


def _declared(operator: Operator) -> Operator:
    """An operator given by value, declared once."""
    known = registry.operators(operator.task).get(operator.name)
    if known is not None and known.definition is operator.definition:
        return known
    return registry.register_operator(operator)


def _with_core(operator: Operator, core: Callable[..., torch.Tensor], name: str) -> Contestant:
    called = name or _called(core)
    for label in (called, f"{core.__module__}.{called}"):  # two files may each have one of the name
        known = operator.implementations.get(label)
        if known is None:
            registry.register_implementation(operator.task, operator.name, label)(core)
        if known is None or known.function is core:
            return Contestant(operator.task, f"{operator.name}[{label}]")
    raise OpbenchError(f"{operator.name}[{called}] is another function already: give it a name=")


def _with_module(operator: Operator, make: Callable[[Mapping[str, Any]], torch.nn.Module], name: str) -> Contestant:
    """The same operator with the tester's module in the place of its own."""
    label = name or f"{operator.name}-{_called(make)}"
    known = registry.operators(operator.task).get(label)
    if known is None:
        registry.register_operator(
            dataclasses.replace(
                operator,
                name=label,
                title=label,
                module=_Made(operator, make),
                implementations={"torch": Implementation("torch")},
                counting=None,
                classes=(),
                aliases=(),
                preferred=(),
                replaces=None,
                layer=None,
                learnt=None,
                core=None,
                core_definition=None,
                constructor=None,
                relations="",
                anatomy="",
                show="",
            )
        )
    elif not (isinstance(known.module, _Made) and known.module.make is make):
        raise OpbenchError(f"operator {label!r} is another one already: give it a name=")
    return Contestant(operator.task, f"{label}[torch]")


@dataclasses.dataclass(frozen=True, eq=False)
class _Made:
    """The tester's module at given dimensions; refused where its parameters aren't those that the definition takes."""

    operator: Operator
    make: Callable[[Mapping[str, Any]], torch.nn.Module]

    def __call__(self, dims: Mapping[str, Any], implementation: Implementation) -> torch.nn.Module:
        module = self.make(dims)
        first = next(iter(self.operator.implementations.values()))
        published = self.operator.module(dims, first)
        fault = difference(shapes(module.state_dict()), shapes(published.state_dict()), self.operator.name)
        if fault:
            raise OpbenchError(
                f"{type(module).__name__}: its {fault}. A module is timed as {self.operator.name} where its parameters "
                "have the published names; opbench_check finds the operator in any"
            )
        return module


def _called(what: Callable[..., Any]) -> str:
    """A function's or class's name, fit for a case's id."""
    return re.sub(r"[^\w.-]", "", getattr(what, "__name__", type(what).__name__)) or "mine"
