"""Modules under check, by their own constructors, against their definitions.

A module is a core whose tensors are its input and its parameters under their state-dict names, and whose options are
the settings it is constructed with. So it is searched, shrunk and reported like any core: a drawn call names its
settings, its shapes and its parameters, and the definition says what output and gradients they give.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor, nn

from opbench.build import TORCH_DTYPES
from opbench.conformance.comparing import record, run
from opbench.conformance.cores import relations_of
from opbench.conformance.module_kinds import DIMENSIONS, ModuleKind
from opbench.conformance.oracle import answers
from opbench.conformance.search import WHAT_A_TARGET_RAISES
from opbench.conformance.strategies import noise
from opbench.conformance.target import TargetName, Value
from opbench.constructors import Settings
from opbench.errors import nearest
from opbench.relations import Core, Example, Relation, Space, Violation
from opbench.schema import DType, OpbenchError, Tensors
from opbench.verify.bounds import judge
from opbench.verify.rounding.terms import rounding_terms

# Fewer pixels than this leave batch statistics too uncertain for any bound to tell right from wrong.
LEAST_PIXELS = 8
MATCHES = "state-dict"
# Of the largest value, in float64: another epsilon in a norm changes more.
ABOUT = 1e-9
# No parameter's name: the gradient of the output among the tensors of a definition.
_INCOMING = "gradient of the output"


@dataclass(frozen=True)
class ModuleTarget:
    """A user's module, called as a core: its input and parameters by name, its settings as options.

    `names` says which of the constructor's own arguments a setting is passed as; `given` are further arguments.
    """

    target: TargetName
    made_from: type[nn.Module] | nn.Module
    kind: ModuleKind
    names: Mapping[str, str]
    given: Mapping[str, Value]
    fixed: Mapping[str, Value]

    def __call__(self, *, training: bool, **named: Any) -> Tensor:
        """One call in training or evaluation mode, under the parameters in `named`."""
        tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
        settings = {name: value for name, value in named.items() if name not in tensors}
        x = tensors["x"]
        module = self.construct(settings).to(x.device, x.dtype).train(training)
        held = {name: value for name, value in tensors.items() if name != "x"}
        fault = _difference(_shapes(module.state_dict()), _shapes(held), self.kind)
        if fault:
            raise Violation(fault, Example(tensors, {**settings, "training": training}))
        # Copies of the statistics, which a call in training mode updates; parameters as they are, for their gradients.
        parameters = dict(module.named_parameters())
        held = {name: value if name in parameters else value.clone() for name, value in held.items()}
        out: Tensor = torch.func.functional_call(module, held, (x,))
        return out

    def construct(self, settings: Settings) -> nn.Module:
        """The module at these settings."""
        if isinstance(self.made_from, nn.Module):
            return copy.deepcopy(self.made_from)
        arguments = {self.names[name]: value for name, value in settings.items() if name in self.names}
        return self.made_from(**{**arguments, **self.given})


def module_target(
    target: TargetName,
    found: type[nn.Module] | nn.Module,
    family: Sequence[ModuleKind],
    given: Mapping[str, Value],
    fixed: Mapping[str, Value],
) -> ModuleTarget:
    """The module as the kind of its family whose state dict it has; the last of them if it has none of theirs.

    `given` are constructor arguments by the module's own names, `fixed` settings by the published ones. A setting that
    the constructor doesn't take stays as published. OpbenchError for what its definition does not cover.
    """
    candidates = []
    for kind in family:
        try:
            candidates.append(as_kind(target, found, kind, given, fixed))
        except OpbenchError:
            if kind is family[-1] and not candidates:
                raise
    chosen = next(filter(fits_by_name, candidates), candidates[0])
    beyond = chosen.kind.beyond({**chosen.given, **chosen.fixed})
    if beyond:
        raise OpbenchError(f"target {target.text!r}: {beyond}")
    return chosen


def as_kind(
    target: TargetName,
    found: type[nn.Module] | nn.Module,
    kind: ModuleKind,
    given: Mapping[str, Value],
    fixed: Mapping[str, Value],
) -> ModuleTarget:
    """The module as one kind, by its constructor's arguments. OpbenchError where they don't say enough."""
    unknown = [name for name in fixed if name not in {*kind.settings, *kind.aliases, *DIMENSIONS}]
    if unknown:
        raise OpbenchError(f"--fix: {nearest('setting', unknown[0], kind.settings)}")
    held = {kind.aliases.get(name, name) if name not in kind.settings else name: v for name, v in fixed.items()}
    if isinstance(found, nn.Module):
        if given:
            raise OpbenchError(f"--arg: {target.name} is constructed already; its settings go with --fix")
        for name in kind.settings:
            own_value = getattr(found, name, None)
            held.setdefault(name, own_value if isinstance(own_value, int | float) else kind.default(name))
        return ModuleTarget(target, found, kind, {}, {}, held)
    parameters = inspect.signature(found).parameters
    kinds = inspect.Parameter
    takes_any = any(parameter.kind is kinds.VAR_KEYWORD for parameter in parameters.values())
    own = [name for name, p in parameters.items() if p.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)]
    strangers = [name for name in given if name not in own]
    if strangers and not takes_any:
        raise OpbenchError(f"--arg: {nearest(f'argument of {target.name}', strangers[0], own)}")
    settings = {*kind.settings, *kind.derived({name: v[0] for name, v in kind.settings.items()})}
    names = {name: name for name in settings if name in own or (takes_any and not own)}
    for alias, name in kind.aliases.items():
        if alias in own and name not in names and alias not in settings:
            names[name] = alias
    of_own = {own_name: name for name, own_name in names.items()}
    held.update({of_own[name]: value for name, value in given.items() if name in of_own})
    unset = [
        name for name in own if parameters[name].default is kinds.empty and name not in of_own and name not in given
    ]
    if unset:
        raise OpbenchError(
            f"target {target.text!r}: {target.name}{inspect.signature(found)} needs {', '.join(unset)}: "
            f"give --arg {unset[0]}=VALUE"
        )
    for name in kind.settings:
        if name not in names:
            held.setdefault(name, kind.default(name))
    return ModuleTarget(target, found, kind, names, given, held)


def fits_by_name(candidate: ModuleTarget) -> bool:
    """By the keys of the state dict at the plainest settings. What the constructor raises is for the check to say."""
    kind, settings = candidate.kind, plainest(candidate)
    try:
        keys = set(_shapes(candidate.construct(settings).state_dict()))
        return kind.fits(settings) and keys == set(kind.parameters(settings, 0))
    except WHAT_A_TARGET_RAISES:
        return False


def plainest(candidate: ModuleTarget) -> Settings:
    """The settings that are fixed, and the first of all others."""
    kind = candidate.kind
    return kind.derived({name: candidate.fixed.get(name, values[0]) for name, values in kind.settings.items()})


def computes_its_kind(candidate: ModuleTarget) -> bool:
    """Whether one call in evaluation, in float64, is what its kind's definition gives."""
    kind, settings = candidate.kind, plainest(candidate)
    try:
        parameters = kind.parameters(settings, 0)
        C = settings["inc"] if "inc" in settings else settings[kind.channels]
        x = noise((1, 6, 7, C) if kind.channels_last else (1, C, 6, 7), 1)
        with torch.no_grad():
            expected = kind.definition(settings, {"x": x, **parameters}, False)
            got = candidate(x=x, **parameters, **settings, training=False)
    except WHAT_A_TARGET_RAISES:
        return False
    return got.shape == expected.shape and bool((got - expected).abs().max() <= ABOUT * expected.abs().max())


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items() if value.is_floating_point()}


def _difference(got: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], kind: ModuleKind) -> str:
    missing = [name for name in expected if name not in got]
    extra = [name for name in got if name not in expected]
    reshaped = [
        f"{name} is {got[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in got and got[name] != shape
    ]
    parts = []
    if missing:
        parts.append(f"it lacks {', '.join(missing)}")
    if extra:
        parts.append(f"it has {', '.join(extra)} besides")
    parts += reshaped
    return f"state dict: not that of {kind.published}: {'; '.join(parts)}" if parts else ""


# --- The relations of a module ----------------------------------------------------------------------------------


def module_relations(kind: ModuleKind) -> tuple[Relation, ...]:
    """What is asked of a module; the first of them, `MATCHES`, is what the others build on, its own ones among them."""

    def of(name: str, statement: str, check: Callable[[Core, Example], None], training: bool) -> Relation:
        return Relation(name, "bounded", statement, check, lambda space: calls(space, kind, training), name != MATCHES)

    published = kind.published
    return (
        of(MATCHES, f"its settings give parameters with the names and shapes of {published}'s", _constructs, False),
        of(
            "evaluation",
            f"in evaluation mode, output and all gradients are those of {published}'s definition",
            lambda core, example: _is_the_definition(kind, core, example),
            False,
        ),
        of(
            "training",
            f"in training mode, output and all gradients are those of {published}'s definition",
            lambda core, example: _is_the_definition(kind, core, example),
            True,
        ),
        *(
            relation if relation.draws else dataclasses.replace(relation, draws=lambda space: calls(space, kind, False))
            for relation in relations_of(kind.operator)
        ),
    )


@st.composite
def calls(draw: st.DrawFn, space: Space, kind: ModuleKind, training: bool) -> Example:
    """Settings first, then a shape, then the seed of all values."""
    settings: dict[str, Any] = {
        name: space.fixed[name] if name in space.fixed else draw(st.sampled_from(values))
        for name, values in kind.settings.items()
    }
    settings = dict(kind.derived(settings))
    assume(kind.fits(settings))

    def choose(name: str, among: st.SearchStrategy[int]) -> int:
        return int(space.fixed[name]) if name in space.fixed else draw(among)

    N = choose("N", st.integers(1, 2))
    H, W = choose("H", st.integers(1, 6)), choose("W", st.integers(1, 6))
    assume(not training or N * H * W >= LEAST_PIXELS)
    seed = draw(st.integers(0, 2**16))
    C = settings["inc"] if "inc" in settings else settings[kind.channels]
    shape = (N, H, W, C) if kind.channels_last else (N, C, H, W)
    try:
        parameters = kind.parameters(settings, seed)
    except Exception as error:  # of an operator's own module: anything
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise OpbenchError(f"{kind.published} is not defined at what is fixed: {said}") from error
    tensors = {"x": noise(shape, seed), **parameters}
    dtype = TORCH_DTYPES[space.dtype]
    moved = {name: value.to(space.device, dtype) for name, value in tensors.items()}
    return Example(moved, {**settings, "training": training})


def _constructs(core: Core, example: Example) -> None:
    """`ModuleTarget` compares the state dict in every call."""
    run(core, example)


def _is_the_definition(kind: ModuleKind, core: Core, example: Example) -> None:
    """Within what rounding may do to the definition (see `opbench.verify.rounding`)."""
    settings = {name: value for name, value in example.options.items() if name != "training"}
    training = bool(example.options["training"])
    buffers = kind.buffers(settings)
    leaves = [name for name in example.tensors if name not in buffers]
    exact = {name: value.detach().to("cpu", torch.float64) for name, value in example.tensors.items()}
    with torch.no_grad():
        shape = kind.definition(settings, exact, training).shape
    grad_output = noise(tuple(shape), 1).to(example.tensors["x"].dtype).double()

    def evaluate(tensors: Tensors) -> dict[str, Tensor]:
        held = {name: value.detach().requires_grad_(name in leaves) for name, value in tensors.items()}
        # Perturbed like everything else: a gradient may be a sum of it alone.
        incoming = held.pop(_INCOMING)
        output = kind.definition(settings, held, training)
        gradients = torch.autograd.grad(output, [held[name] for name in leaves], incoming, materialize_grads=True)
        return {"output": output.detach(), **dict(zip(leaves, gradients, strict=True))}

    exact[_INCOMING] = grad_output
    dtype = next(name for name, kind in TORCH_DTYPES.items() if kind is example.tensors["x"].dtype)
    expected = evaluate(exact)
    pixels = shape.numel() // shape[-1 if kind.channels_last else 1]
    terms, basis = rounding_terms(
        evaluate, exact, expected, cast(DType, dtype), {name: pixels for name in leaves if name != "x"}
    )
    got = answers(core, example, grad_output.to(example.tensors["x"]), leaves)
    verdict = judge(got, expected, terms, dtype, basis)
    record(verdict.worst_ratio)
    if not verdict.correct:
        raise Violation(verdict.reason, example)


def names_of(kind: ModuleKind) -> Sequence[str]:
    """Every word by which an error message may mean a setting."""
    return (*kind.settings, *kind.aliases)
