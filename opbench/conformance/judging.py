"""A target made ready to be tried: what it is, what it is held to, and what is fixed."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from opbench import registry
from opbench.conformance import declared_kinds, fitting, living, modules, promised
from opbench.conformance.adapting import adapt, core_of_module, core_signature
from opbench.conformance.cores import cores, relations_of
from opbench.conformance.deployed import deployed_relations, deployed_ways, of_function
from opbench.conformance.findings import Attempted, Request
from opbench.conformance.inside import asking, renaming
from opbench.conformance.inside.relations import convicting, core_relations, further_relations, namesake
from opbench.conformance.inside.surroundings import chosen_otherwise
from opbench.conformance.inside.tracing import recorded
from opbench.conformance.judged import Judged, OtherCore
from opbench.conformance.module_kinds import DIMENSIONS
from opbench.conformance.raised import WHAT_A_TARGET_RAISES
from opbench.conformance.sizes import completed
from opbench.conformance.target import TargetName, Value, asked_for, assignments, load, parse
from opbench.errors import nearest
from opbench.relations import Relation
from opbench.schema import DType, OpbenchError, Operator

AT_LEAST_ONE = (*DIMENSIONS, "kernel_size", "group_size", "scale_factor", "stride", "dilation", "group")
# What people train in first: the first dtype gets the most examples.
DTYPES_IN_ORDER: tuple[DType, ...] = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True)
class ModuleAsked:
    """A module in which the operator is to be found: what was asked for, and what the target's name stands for."""

    request: Request
    target: TargetName
    found: type[nn.Module] | nn.Module
    given: Mapping[str, Value]
    fixed: Mapping[str, Value]


# One way to find the operator in a module: the target ready to be tried, or in a clause why it can't be judged so.
JudgingAttempt = Callable[[ModuleAsked], Judged | str]


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
        judged = _first_that_fits(ModuleAsked(request, target, found, given, fixed))
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
    convicted = judged.core is _never  # in a sentence: there is nothing to take
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


def _first_that_fits(asked: ModuleAsked) -> Judged:
    """By the first of the attempts that finds the operator; with no properties where none does."""
    told: list[Attempted] = []
    for name, attempt in ATTEMPTS:
        judged = attempt(asked)
        if isinstance(judged, Judged):
            if judged.instead:
                told.append(Attempted(name, judged.instead))
                name = ATTEMPTS[-1][0]
            fits = Attempted(name, judged.found or f"judged as {judged.judged_as}", fits=True)
            return dataclasses.replace(judged, attempts=(*told, fits))
        told.append(Attempted(name, judged))
    return Judged(f"{asked.request.operator} (module)", _never, (), {}, (), attempts=tuple(told))


def _never(**named: Any) -> Tensor:
    raise AssertionError("nothing is held to no relation")


def _by_name(asked: ModuleAsked) -> Judged | str:
    family = declared_kinds.family(asked.request.operator)
    try:
        candidate = fitting.module_target(asked.target, asked.found, family, asked.given, asked.fixed)
    except fitting.UnsetArgumentsError as error:
        # What is fixed are settings of the operator's own module; and so are the arguments of that module itself.
        made = type(asked.found) if isinstance(asked.found, nn.Module) else asked.found
        if asked.fixed or not _operator(asked).anatomy or any(made is kind.module for kind in family):
            raise
        return str(error)
    if isinstance(candidate, str):
        if asked.fixed:  # which are settings of the operator's own module, and no other attempt's
            raise OpbenchError(f"target {asked.target.text!r}: not judged: at what is fixed, {candidate}")
        return candidate
    judged = _as_module(asked.request, candidate)
    otherwise = _chosen_otherwise(candidate) if _operator(asked).anatomy else ()
    if otherwise:  # another module round the core is no other core, though weights fit by name
        inside = _by_its_core(asked)
        if isinstance(inside, Judged) and inside.core is not _never:
            published = candidate.kind.published
            instead = f"its parameters have the names and shapes of {published}'s, but it has {'; '.join(otherwise)}"
            named = namesake(published, otherwise)
            return dataclasses.replace(inside, instead=instead, properties=(*inside.properties, named))
    return dataclasses.replace(judged, notes=(*judged.notes, *fitting.unchecked(candidate)))


def _chosen_otherwise(candidate: modules.ModuleTarget) -> tuple[str, ...]:
    """Which activations and norms it has in the place of the published module's, if it computes something else."""
    kind = candidate.kind
    settings = next(fitting.plainest_first(candidate))
    x = renaming.image_for(kind, settings)
    try:
        if renaming.computes_its_kind(candidate, settings):
            return ()
        made = (candidate.constructed(settings, x), kind.construct(settings))
        theirs, own = (recorded(one.float().eval(), x.float()) for one in made)
    except (*WHAT_A_TARGET_RAISES, StopIteration):
        return ()
    return chosen_otherwise(theirs, own, kind.published)


def _under_other_names(asked: ModuleAsked) -> Judged | str:
    family = declared_kinds.family(asked.request.operator)
    candidate = renaming.renamed(asked.target, asked.found, family, asked.given, asked.fixed)
    if candidate is None:
        return "no order of its parameters makes them those of the operator's own module"
    judged = _as_module(asked.request, candidate)
    return dataclasses.replace(judged, found=candidate.told(), notes=(*judged.notes, *fitting.unchecked(candidate)))


def _by_its_core(asked: ModuleAsked) -> Judged | str:
    request, operator = asked.request, _operator(asked)
    anatomy = asking.anatomy_of(operator)
    if anatomy is None:
        return f"nothing is declared of {operator.name} by which its core would be known"
    inside = asking.look_inside(request, operator, asked.target.name)
    if inside.kind == "right" and inside.core is not None and inside.found is not None:
        relations = core_relations(operator, inside.found)
        others: dict[str, OtherCore] = {}
        for number, other in enumerate(inside.further, start=2):
            of_other = further_relations(operator, other, number)
            relations += of_other
            fixed = dict(other.found.options)
            others |= {relation.name: OtherCore(other.core, fixed) for relation in of_other}
        return Judged(
            f"{request.operator} (core inside the module)",
            inside.core,
            relations,
            dict(inside.found.options),
            request.dtypes or (("float32",) if request.quick else ("float32", "float64")),
            found=inside.sentence,
            others=others,
            taken=inside.core.taken,
        )
    sentence = f"{inside.sentence}; {inside.advice}" if inside.advice else inside.sentence
    if inside.kind == "unknown":
        return sentence
    statement = f"inside the module is {anatomy.function}, and its output comes of it"
    relations = convicting(statement, sentence)
    return Judged(f"{request.operator} (core inside the module)", _never, relations, {}, ("float32",), found=sentence)


def _by_what_none_may(asked: ModuleAsked) -> Judged | str:
    supplied = {
        name: value for kind in declared_kinds.family(asked.request.operator) for name, value in kind.supplied.items()
    }
    sentence, statement = promised.fault(asked.request, asked.found, supplied, asked.target.name)
    if not sentence:
        return "it breaks nothing that every module promises, as far as that was tried"
    relations = convicting(statement, sentence, "promises")
    return Judged(f"{asked.request.operator} (module)", _never, relations, {}, ("float32",), found=sentence)


def _operator(asked: ModuleAsked) -> Operator:
    """The operator whose core is looked for."""
    if asked.request.operator in cores():
        return declared_kinds.slot_operator(asked.request.operator)
    return declared_kinds.family(asked.request.operator)[-1].operator


# In the order in which they are tried; the outcome names each.
ATTEMPTS: tuple[tuple[str, JudgingAttempt], ...] = (
    ("its parameters by name", _by_name),
    ("its parameters under other names", _under_other_names),
    ("the core inside it", _by_its_core),
    ("what every module promises", _by_what_none_may),
)


def _as_module(request: Request, candidate: modules.ModuleTarget) -> Judged:
    return Judged(
        f"{candidate.kind.name} (module)",
        candidate,
        (*modules.module_relations(candidate.kind), *living.living_relations(candidate)),
        candidate.fixed,
        request.dtypes or (("float32",) if request.quick else ("float32", "float64")),
        gate=modules.MATCHES,
        words=modules.names_of(candidate.kind),
        taken=lambda example: (living.instance(candidate, example), (example.tensors["x"],)),
    )


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
    judged = _as_module(request, candidate)
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
        request.dtypes or (("float32",) if request.quick else DTYPES_IN_ORDER),
        notes=adapted.notes,
    )
