"""A user's target looked into: made by its constructor, held against the anatomies that operators declare."""

from __future__ import annotations

import importlib

from torch import nn

from opbench import registry
from opbench.anatomy import Anatomy
from opbench.conformance.findings import Request
from opbench.conformance.inside.looking import look
from opbench.conformance.inside.outcome import Inside
from opbench.conformance.promises.constructing import built
from opbench.conformance.promises.findings import PromiseRequest
from opbench.schema import OpbenchError, Operator
from opbench.tasks import SLOTS

# Channels to construct a module with where its arguments say nothing: enough for any number of groups, and quick.
CHANNELS = 32


def anatomy_of(operator: Operator) -> Anatomy | None:
    """The anatomy that an operator declares."""
    if not operator.anatomy:
        return None
    module, _, name = operator.anatomy.partition(":")
    found: Anatomy = getattr(importlib.import_module(module), name)
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
