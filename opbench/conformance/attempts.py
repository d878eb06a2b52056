"""Which module of an operator a target is: by its parameters' names, by their order, by the core inside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from opbench.conformance import declared_kinds, fitting, living, modules, promised
from opbench.conformance.cores import cores
from opbench.conformance.findings import Attempted, Request
from opbench.conformance.inside import asking, renaming
from opbench.conformance.inside.relations import convicting, core_relations, further_relations, namesake
from opbench.conformance.inside.surroundings import chosen_otherwise
from opbench.conformance.inside.thin import judged_apart
from opbench.conformance.inside.tracing import recorded
from opbench.conformance.judged import Judged, OtherCore
from opbench.conformance.raised import WHAT_A_TARGET_RAISES
from opbench.conformance.target import TargetName, Value
from opbench.schema import DType, OpbenchError, Operator

# Of a module: half types are its core's affair.
BOTH_OF_TRAINING: tuple[DType, ...] = ("float32", "float64")


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


def first_that_fits(asked: ModuleAsked) -> Judged:
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
    return Judged(f"{asked.request.operator} (module)", never, (), {}, (), attempts=tuple(told))


def dtypes_of(request: Request, all_of: tuple[DType, ...]) -> tuple[DType, ...]:
    """What was asked for; else the first that people train in where it is to be quick, and all of them where not."""
    return request.dtypes or (all_of[:1] if request.quick else all_of)


def never(**named: object) -> Tensor:
    """In the place of a core where there is none to call."""
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
    candidate = renaming.as_it_is_called(candidate)
    judged = as_module(asked.request, candidate)
    otherwise = _chosen_otherwise(candidate) if _operator(asked).anatomy else ()
    if otherwise:  # another module round the core is no other core, though weights fit by name
        inside = _by_its_core(asked)
        if isinstance(inside, Judged) and inside.core is not never:
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
    judged = as_module(asked.request, candidate)
    return dataclasses.replace(judged, found=candidate.told(), notes=(*judged.notes, *fitting.unchecked(candidate)))


def _by_its_core(asked: ModuleAsked) -> Judged | str:
    request, operator = asked.request, _operator(asked)
    anatomy = asking.anatomy_of(operator)
    if anatomy is None:
        return f"nothing is declared of {operator.name} by which its core would be known"
    inside = asking.look_inside(request, operator, asked.target.name)
    if inside.kind == "right" and inside.core is not None and inside.found is not None:
        core, relations = judged_apart(inside.core, inside.found, core_relations(operator, inside.found))
        others: dict[str, OtherCore] = {}
        for number, other in enumerate(inside.further, start=2):
            of_other = further_relations(operator, other, number)
            relations += of_other
            fixed = dict(other.found.options)
            others |= {relation.name: OtherCore(other.core, fixed) for relation in of_other}
        return Judged(
            f"{request.operator} (core inside the module)",
            core,
            relations,
            dict(inside.found.options),
            dtypes_of(request, BOTH_OF_TRAINING),
            found=inside.sentence,
            others=others,
            taken=inside.core.taken,
        )
    sentence = f"{inside.sentence}; {inside.advice}" if inside.advice else inside.sentence
    if inside.kind == "unknown":
        return sentence
    statement = f"inside the module is {anatomy.function}, and its output comes of it"
    relations = convicting(statement, sentence)
    return Judged(f"{request.operator} (core inside the module)", never, relations, {}, ("float32",), found=sentence)


def _by_what_none_may(asked: ModuleAsked) -> Judged | str:
    supplied = {
        name: value for kind in declared_kinds.family(asked.request.operator) for name, value in kind.supplied.items()
    }
    sentence, statement = promised.fault(asked.request, asked.found, supplied, asked.target.name)
    if not sentence:
        return "it breaks nothing that every module promises, as far as that was tried"
    relations = convicting(statement, sentence, "promises")
    return Judged(f"{asked.request.operator} (module)", never, relations, {}, ("float32",), found=sentence)


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


def as_module(request: Request, candidate: modules.ModuleTarget) -> Judged:
    """Held to the relations of its kind, and to those of the ways in which a module is used."""
    return Judged(
        f"{candidate.kind.name} (module{candidate.otherwise_laid_out})",
        candidate,
        (*modules.module_relations(candidate.kind), *living.living_relations(candidate)),
        candidate.fixed,
        dtypes_of(request, BOTH_OF_TRAINING),
        gate=modules.MATCHES,
        words=modules.names_of(candidate.kind),
        taken=lambda example: (living.instance(candidate, example), (example.tensors["x"],)),
    )
