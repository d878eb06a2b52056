"""A target made ready to be tried: what it is, what it is held to, and what is fixed."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from opbench import registry
from opbench.conformance import declared_kinds
from opbench.conformance.adapting import adapt, core_of_module, core_signature
from opbench.conformance.attempts import ModuleAsked, as_module, dtypes_of, first_that_fits, never
from opbench.conformance.cores import cores, relations_of
from opbench.conformance.deployed import deployed_relations, deployed_ways, of_function
from opbench.conformance.findings import Request
from opbench.conformance.judged import Judged
from opbench.conformance.module_kinds import DIMENSIONS
from opbench.conformance.sizes import completed
from opbench.conformance.target import TargetName, Value, asked_for, assignments, load, parse
from opbench.errors import nearest
from opbench.relations import Relation
from opbench.schema import DType, OpbenchError

AT_LEAST_ONE = (*DIMENSIONS, "kernel_size", "group_size", "scale_factor", "stride", "dilation", "group")
# What people train in first: the first dtype gets the most examples.
DTYPES_IN_ORDER: tuple[DType, ...] = ("float32", "float64", "bfloat16", "float16")


def prepare(request: Request, loaded: Callable[[], None] = lambda: None) -> Judged:
    """Loads the target, which `loaded` hears of, and says what it is held to. Raises OpbenchError for wrong usage."""
    if request.device == "cuda" and not torch.cuda.is_available():
        raise OpbenchError("--device cuda: there is no CUDA device here")
    target = parse(request.target)
    fixed = assignments("--fix", request.fix)
    given = assignments("--arg", request.arguments)
    known = sorted({*cores(), *declared_kinds.names()})
    if request.operator not in known:
        raise OpbenchError(f"--operator: {registry.unknown_operator('operator', request.operator, known)}")
    found = load(target, request.path)
    loaded()
    found = _called_as_core(request, found) or found
    if isinstance(found, nn.Module) or (inspect.isclass(found) and issubclass(found, nn.Module)):
        judged = first_that_fits(ModuleAsked(request, target, found, given, fixed))
        if not judged.properties:
            return judged
    elif inspect.isclass(found):
        raise OpbenchError(
            f"target {request.target!r}: {target.name} is a class and no torch.nn.Module: "
            "expected a function or a module"
        )
    elif request.operator in cores():
        judged = _as_function(request, target, found, fixed, given)
    else:
        judged = _as_core(request, target, found, given, fixed)
    convicted = judged.core is never  # in a sentence: there is nothing to take
    ways, lacking = ((), ()) if convicted else deployed_ways(request.compile, request.export)
    first = judged.properties[0].draws
    assert first is not None
    deployed = deployed_relations(ways, judged.taken or of_function(judged.core), first)
    judged = dataclasses.replace(judged, properties=(*judged.properties, *deployed))
    names = [prop.name for prop in judged.properties]
    asked = asked_for("relation", names, request.only, request.skip)
    kept = tuple(prop for prop in judged.properties if prop.name in asked)
    if request.forward_only:
        kept = tuple(part for prop in kept if (part := _forward_part(prop)) is not None)
    notes = [*lacking, *(f"{name}: left out by --skip" for name in request.skip)]
    if request.forward_only:
        notes.append("gradients, and what they are needed for: left out by --forward-only")
    shape = _shape(request.shape, judged) if request.shape else {}
    return dataclasses.replace(judged, properties=kept, notes=(*judged.notes, *notes), shape=shape)


def _called_as_core(request: Request, found: Any) -> Callable[..., Any] | None:
    """A module whose forward takes the core's own tensors, such as CARAFE's x and mask, is a core in a class."""
    operator = cores().get(request.operator)
    module = isinstance(found, nn.Module) or (inspect.isclass(found) and issubclass(found, nn.Module))
    if operator is None or operator.core is None or not module:
        return None
    return core_of_module(found, len(core_signature(operator.core).tensors))


def _shape(text: str, judged: Judged) -> Mapping[str, Value]:
    """The sizes in `--shape N=8,C=256`; OpbenchError for what the target is never called with."""
    asked = assignments("--shape", text.split(","))
    sizes = next((prop.sizes for prop in judged.properties if prop.sizes is not None), None)
    if sizes is None:
        raise OpbenchError(f"--shape: {judged.judged_as} has no relation that is tried at given sizes")
    for name, value in asked.items():
        if name not in sizes.rungs:
            raise OpbenchError(f"--shape: {nearest('size', name, list(sizes.rungs))}")
        least = min(sizes.rungs[name])
        if isinstance(value, str) or value < least or (isinstance(least, int) and not isinstance(value, int)):
            raise OpbenchError(f"--shape {name}={value}: expected a number of at least {least}")
    found = completed(sizes, judged.fixed, asked)
    if found is None or any(found[name] != value for name, value in asked.items()):
        raise OpbenchError(f"--shape {text}: there is no call of these sizes under what is fixed")
    return asked


def _forward_part(relation: Relation) -> Relation | None:
    """What remains of a relation without gradients."""
    if not relation.needs_gradients:
        return relation
    if relation.without_gradients is None:
        return None
    return dataclasses.replace(relation, check=relation.without_gradients, needs_gradients=False)


def _as_core(
    request: Request,
    target: TargetName,
    function: Callable[..., Any],
    given: Mapping[str, Value],
    fixed: Mapping[str, Value],
) -> Judged:
    """A function in the place of a core of an operator that has no public one: in the operator's own module.

    Of one whose core has a definition, tensors and options may have other names.
    """
    kind = declared_kinds.kind_named(request.operator)
    if not declared_kinds.takes_a_core(kind):
        raise OpbenchError(
            f"--operator {request.operator} is a module: expected target {request.target!r} to be a torch.nn.Module "
            f"like {kind.published}, got {type(function).__name__} {target.name}"
        )
    for name in fixed:
        if name not in {*kind.settings, *DIMENSIONS}:
            raise OpbenchError(f"--fix: {nearest('setting', name, (*kind.settings, *DIMENSIONS))}")
    beyond = kind.malformed(fixed) or kind.beyond(fixed)
    if beyond:
        raise OpbenchError(f"target {target.text!r}: {beyond}")
    notes: tuple[str, ...] = ()
    if kind.operator.core_definition is not None:
        signature = dataclasses.replace(core_signature(kind.operator.core_definition), name=request.operator)
        adapted = adapt(target, function, signature, fixed, given)
        function, notes = adapted.function, adapted.notes
    elif given:
        raise OpbenchError(f"--arg: {target.name} is a function, which is not constructed; settings go with --fix")
    candidate = declared_kinds.InPlace(target, nn.Module, kind, {}, {}, fixed, function=function)
    judged = as_module(request, candidate)
    return dataclasses.replace(judged, judged_as=f"{request.operator} (function, in its module)", notes=notes)


def _as_function(
    request: Request,
    target: TargetName,
    function: Callable[..., Any],
    fixed: Mapping[str, Value],
    given: Mapping[str, Value],
) -> Judged:
    declared = cores()[request.operator]
    assert declared.core is not None
    signature = core_signature(declared.core)
    for name, value in fixed.items():
        if name not in {*signature.options, *DIMENSIONS}:
            raise OpbenchError(f"--fix: {nearest('option', name, (*signature.options, *DIMENSIONS))}")
        if isinstance(value, str):
            raise OpbenchError(f"--fix {name}={value}: expected a number, true or false")
        if name in AT_LEAST_ONE and (not isinstance(value, int) or value < 1):
            raise OpbenchError(f"--fix {name}={value}: expected an integer of at least 1")
    channels_last = declared_kinds.family(request.operator)[0].channels_last
    adapted = adapt(target, function, signature, fixed, given, channels_last=channels_last)
    return Judged(
        f"{request.operator} (function)",
        adapted.function,
        relations_of(dataclasses.replace(declared, relations=request.properties or declared.relations)),
        {**fixed, **adapted.fixed},
        dtypes_of(request, DTYPES_IN_ORDER),
        notes=adapted.notes,
    )
