"""The gate's verdict on a planted core or module, in process: seconds for dozens of them."""

import functools
from dataclasses import replace

from opbench import registry
from opbench.build import build
from opbench.schema import Case, Implementation
from opbench.verify import gate


def case(operator, mode, dtype="float32", **dims):
    """A case of the slot conv3x3 of more than 64 channels, a rectangle, and samples that reach over the border."""
    given = {"N": 2, "C": 68, "H": 6, "W": 4, "G": 1, **dims}
    first = next(iter(registry.operator("conv3x3", operator).implementations))
    return Case("conv3x3", "mutants", operator, first, given, dtype, "cpu", mode, 1.5)


@functools.cache
def reference(operator, mode, dtype, dims):
    """The bounds of a case: derived once for all that is held to them."""
    return gate.reference(build(case(operator, mode, dtype, **dict(dims))))


def verdict_on_core(operator, core, mode, dtype="float32", **dims):
    """On a core in the operator's own module."""
    built = build(case(operator, mode, dtype, **dims), Implementation("planted", core))
    return reference(operator, mode, dtype, tuple(dims.items())).judge(gate.call(built))


def verdict_on_module(monkeypatch, operator, make, mode, dtype="float32", **dims):
    """On a module that takes the place of the operator's, with its parameters; `make(dims)` constructs it."""
    right = registry.operator("conv3x3", operator)
    held = reference(operator, mode, dtype, tuple(dims.items()))
    planted = replace(right, module=lambda dims, implementation: make(dims))
    with monkeypatch.context() as patched:
        patched.setattr(registry, "operator", lambda task, name: planted)
        return held.judge(gate.call(build(case(operator, mode, dtype, **dims))))
