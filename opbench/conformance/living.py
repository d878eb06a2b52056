"""Modules that live on: one instance called again and again, copied, pickled, in every gradient mode.

The relations of `modules` construct a module for every call; what an instance remembers shows only here.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from opbench.conformance import second
from opbench.conformance.comparing import run
from opbench.conformance.fitting import plainest_first
from opbench.conformance.module_kinds import ModuleKind
from opbench.conformance.modules import ModuleTarget, calls, settings_in
from opbench.conformance.outstanding import target_runs
from opbench.conformance.promises.subject import difference
from opbench.conformance.raised import WHAT_A_TARGET_RAISES
from opbench.constructors import Settings
from opbench.relations import Core, Example, Relation, Space, Tier, Violation

# Of the largest value: the same calculation done twice.
SAME = 1e-5


def living_relations(candidate: ModuleTarget) -> tuple[Relation, ...]:
    """What an instance of the module promises beside the definition."""

    def draws(space: Space) -> st.SearchStrategy[Example]:
        return calls(space, candidate.kind, False)

    def in_a_row(core: Core, example: Example) -> None:
        module, x = instance(candidate, example), example.tensors["x"]
        other = -x.flip(0)
        inputs = {"first": x, "second": other, "third, of twice the batch,": torch.cat([x, other]), "fourth": x}
        for which, given in inputs.items():
            _agrees(core, example, module, given, f"in the {which} of four calls of one instance")

    def in_every_mode(core: Core, example: Example) -> None:
        module, x = instance(candidate, example), example.tensors["x"]
        for mode, entered in (("torch.no_grad", torch.no_grad), ("torch.inference_mode", torch.inference_mode)):
            with entered():
                got = _called(module, x.clone()).clone()
            _same(got, run(core, example), example, f"under {mode}")

    def copies(core: Core, example: Example) -> None:
        module, x = instance(candidate, example), example.tensors["x"]
        with torch.no_grad():
            _called(module, x)
        made: dict[str, Callable[[nn.Module], nn.Module]] = {
            "copy.deepcopy": copy.deepcopy,
            "pickle and back": lambda one: pickle.loads(pickle.dumps(one)),
        }
        for how, copied in made.items():
            _agrees(core, example, copied(module), x, f"after {how}")

    def twice(core: Core, example: Example) -> None:
        settings = settings_in(example.options)
        buffers = candidate.kind.buffers(settings)
        names = [name for name in example.tensors if name not in buffers]

        def definition(*, training: bool, **named: Any) -> Tensor:
            tensors = {name: named[name] for name in example.tensors}
            return candidate.kind.definition(settings, tensors, training)

        second.compare(core, definition, example, names)

    def constants(core: Core, example: Example) -> None:
        settings = settings_in(example.options)
        own = dict(candidate.constructed(settings, example.tensors["x"]).named_buffers())
        for name, value in _constants(candidate.kind, settings).items():
            if name in own and not torch.allclose(own[name].double(), value, atol=1e-6):
                number = int((own[name].double() - value).abs().flatten().argmax())
                expected, got = (float(one.flatten()[number]) for one in (value, own[name]))
                said = f"buffer {name}, as it is made: expected {expected:.6g} at number {number}, got {got:.6g}"
                raise Violation(said, example)

    def of(
        name: str, statement: str, check: Callable[[Core, Example], None], *, tier: Tier = "wrong", grads: bool = False
    ) -> Relation:
        def watched(core: Core, example: Example) -> None:
            with target_runs(example):  # an instance is held to another one: all of it is the target's time
                check(core, example)

        return Relation(name, "bounded", statement, watched, draws, grads, tier=tier, of_use=True)

    found: tuple[Relation, ...] = (
        of("calls-in-a-row", "one instance, called four times, computes what a new one does each time", in_a_row),
        of("gradient-modes", "under no_grad and in inference mode an instance computes the same", in_every_mode),
        of(second.NAME, second.STATEMENT, twice, tier="fragile", grads=True),
    )
    if candidate.made_from is nn.Module:  # a function in the operator's own module, which nobody copies
        return found
    if _has_constants(candidate):
        found = (*found, of("constants", "the buffers that it makes itself hold the published values", constants))
    return (*found, of("copies", "a deep copy and a pickled one compute the same", copies))


def _has_constants(candidate: ModuleTarget) -> bool:
    """Whether the published module has any. Where it can't be made as fixed, the drawing of a call says so."""
    settings = next(plainest_first(candidate), None)
    try:
        return settings is not None and bool(_constants(candidate.kind, settings))
    except WHAT_A_TARGET_RAISES:
        return False


def _constants(kind: ModuleKind, settings: Settings) -> dict[str, Tensor]:
    """The published buffers that are the same whatever is drawn, by name."""
    first, other = (kind.parameters(settings, seed) for seed in (0, 1))
    held = (name for name in sorted(kind.buffers(settings)) if name in first)
    return {name: first[name] for name in held if first[name].equal(other[name])}


def instance(candidate: ModuleTarget, example: Example) -> nn.Module:
    """One in evaluation, with the example's settings and parameters."""
    x = example.tensors["x"]
    settings = settings_in(example.options)
    module = candidate.constructed(settings, x).to(x.device, x.dtype).eval()
    held = {name: value.detach().clone() for name, value in example.tensors.items() if name != "x"}
    module.load_state_dict(held, strict=False)
    return module


def _called(module: nn.Module, x: Tensor) -> Tensor:
    found = [leaf for leaf in tree_leaves(module(x)) if isinstance(leaf, Tensor)]
    return found[0]


def _agrees(core: Core, example: Example, module: nn.Module, x: Tensor, when: str) -> None:
    with torch.no_grad():
        got = _called(module, x.clone()).clone()
    _same(got, run(core, example.replace(None, x=x)), example, when)


def _same(got: Tensor, expected: Tensor, example: Example, when: str) -> None:
    fault = difference([got], [expected.detach()], SAME)
    if fault:
        raise Violation(f"{fault} {when}", example)
