"""A user's target looked into: made by its constructor, held against the anatomies that operators declare."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from pkgutil import resolve_name

import msgspec
from torch import nn

from opbench import registry
from opbench.anatomy import Anatomy
from opbench.conformance.findings import Request
from opbench.conformance.inside.looking import look
from opbench.conformance.inside.outcome import Inside
from opbench.conformance.meaning import meanings
from opbench.conformance.promises.constructing import built
from opbench.conformance.promises.findings import PromiseRequest
from opbench.conformance.target import assignments, load, parse
from opbench.schema import OpbenchError, Operator
from opbench.tasks import SLOTS

# Channels to construct a module with where its arguments say nothing: enough for any number of groups, and quick.
CHANNELS = 32


def anatomy_of(operator: Operator) -> Anatomy | None:
    """The anatomy that an operator declares."""
    if not operator.anatomy:
        return None
    found: Anatomy = resolve_name(operator.anatomy)
    return found


def look_inside(request: Request, operator: Operator, name: str) -> Inside:
    """What the target, called `name`, has inside. OpbenchError where it can't be made or called."""
    own = anatomy_of(operator)
    assert own is not None
    # Each core once: several modules are made around one.
    anatomies = {operator.name: own}
    for task in SLOTS:
        for other in registry.operators(task).values():
            theirs = anatomy_of(other)
            if theirs is not None and theirs not in anatomies.values():
                anatomies[other.name] = theirs

    inside = _looked_at(request, operator, name, anatomies)
    for argument in _degenerate(request):
        if inside.kind == "unknown":
            larger = msgspec.structs.replace(request, arguments=(*request.arguments, argument))
            again = _looked_at(larger, operator, name, anatomies)
            if again.kind != "unknown":
                inside = dataclasses.replace(again, sentence=f"with {argument}, {again.sentence}")
    off = _switched_off(request)
    if inside.kind == "wrong" and off:
        told = f"it was made with {', '.join(f'{one}=False' for one in off)}: --arg {off[0]}=True is another module"
        inside = dataclasses.replace(inside, advice=f"{inside.advice}; {told}" if inside.advice else told)
    return inside


def _parameters(request: Request) -> Mapping[str, inspect.Parameter]:
    """The arguments of the target's constructor that were not given."""
    found = load(parse(request.target), request.path)
    if not inspect.isclass(found):
        return {}
    given = assignments("--arg", request.arguments)
    return {name: one for name, one in inspect.signature(found).parameters.items() if name not in given}


def _degenerate(request: Request) -> list[str]:
    """Kernel sizes that are 1 unless told: there is no window, by which a core would be known."""
    return [
        f"{name}=3" for name, one in _parameters(request).items() if one.default == 1 and "kernel" in meanings(name)
    ][:1]


def _switched_off(request: Request) -> list[str]:
    """What is False unless told, and may make another operator of it."""
    return [name for name, one in _parameters(request).items() if one.default is False and name != "bias"]


def _looked_at(request: Request, operator: Operator, name: str, anatomies: Mapping[str, Anatomy]) -> Inside:
    def asked(channels: int | None) -> PromiseRequest:
        return PromiseRequest(
            target=request.target,
            arguments=request.arguments,
            shape={} if channels is None else {"C": channels},
            seed=request.seed,
            path=request.path,
        )

    try:
        subject, _, channels, _ = built(asked(CHANNELS))
    except OpbenchError:
        subject, _, channels, _ = built(asked(None))

    def make(count: int | None) -> nn.Module:
        return subject.make() if count is None else built(asked(count))[0].make()

    return look(name, make, channels, anatomies, operator.name)
