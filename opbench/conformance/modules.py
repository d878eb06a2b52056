"""Modules under check, by their own constructors, against their definitions.

A module is a core whose tensors are its input and its parameters under their state-dict names, and whose options are
the settings it is constructed with. So it is searched, shrunk and reported like any core: a drawn call names its
settings, its shapes and its parameters, and the definition says what output and gradients they give.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from opbench.build import TORCH_DTYPES
from opbench.conformance.comparing import record, run
from opbench.conformance.cores import relations_of
from opbench.conformance.module_kinds import ModuleKind
from opbench.conformance.oracle import answers, titled
from opbench.conformance.precision import FLOAT32_ONLY, violated
from opbench.conformance.raised import TORCH_REFUSES_FORMAT, WHAT_A_TARGET_RAISES
from opbench.conformance.strategies import noise
from opbench.conformance.target import TargetName, Value
from opbench.constructors import Settings
from opbench.errors import said, text_of
from opbench.relations import Core, Example, Relation, Space
from opbench.schema import DType, OpbenchError, Tensors
from opbench.verify.bounds import judge
from opbench.verify.rounding.terms import rounding_terms

# Fewer pixels than this leave batch statistics too uncertain for any bound to tell right from wrong.
LEAST_PIXELS = 8
MATCHES = "state-dict"
NO_BACKWARD = "raises in its backward pass, in an operation that this release of torch lacks"
# No parameter's name: the gradient of the output among the tensors of a definition.
_INCOMING = "gradient of the output"


@dataclass(frozen=True)
class ModuleTarget:
    """A user's module, called as a core: its input and parameters by name, its settings as options.

    `names` says which of the constructor's own arguments a setting is passed as; `given` are further arguments,
    `tied` arguments that have the value of a setting.
    """

    target: TargetName
    made_from: type[nn.Module] | nn.Module
    kind: ModuleKind
    names: Mapping[str, str]
    given: Mapping[str, Value]
    fixed: Mapping[str, Value]
    tied: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *, training: bool, **named: Any) -> Tensor:
        """One call in training or evaluation mode, under the parameters in `named`.

        Of a tuple, its first tensor. Raises NotImplementedError where the constructor refuses the settings, or makes
        other parameters of them: these settings can't be judged.
        """
        tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
        settings = {name: value for name, value in named.items() if name not in tensors}
        x = tensors["x"]
        module = self.constructed(settings, x).to(x.device, x.dtype).train(training)
        held = {name: value for name, value in tensors.items() if name != "x"}
        fault = difference(shapes(module.state_dict()), shapes(held), self.kind.published)
        if fault:
            raise NotImplementedError(f"at these settings its {fault}")
        # Copies of the statistics, which a call in training mode updates; parameters as they are, for their gradients.
        parameters = dict(module.named_parameters())
        held = {name: value if name in parameters else value.clone() for name, value in held.items()}
        out = torch.func.functional_call(module, held, (x,))
        found = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        return found[0] if found else cast(Tensor, out)

    @property
    def otherwise_laid_out(self) -> str:
        """Where it takes the channels of its images, if not where the published module does: `, channels first`."""
        return ""

    def raises_where(self, options: Settings) -> str:
        """What alone makes a call raise, though plain ones don't: `at dilation=2`, `on some images`; "" if nothing.

        Whoever takes plain calls computes no other function because of it.
        """
        settings = settings_in(options)
        kind, plainest = self.kind, {name: values[0] for name, values in self.kind.settings.items()} | dict(self.fixed)
        if not self._raises(settings):
            return "on some images"
        for name, value in settings.items():
            if name not in kind.settings or value == plainest[name]:
                continue
            changed = kind.derived({**plainest, name: value})
            if kind.fits(plainest) and kind.fits(changed) and self._raises(changed) and not self._raises(plainest):
                return f"at {name}={value}"
        return ""

    def _raises(self, settings: Settings) -> bool:
        channels = self.kind.received(settings)
        x = noise((2, 12, 12, channels) if self.kind.channels_last else (2, channels, 12, 12), 1).float()
        try:
            outs = tree_leaves(self.constructed(settings, x).eval()(x.requires_grad_()))
            next(out for out in outs if isinstance(out, Tensor)).sum().backward()
        except WHAT_A_TARGET_RAISES:
            return True
        return False

    def construct(self, settings: Settings) -> nn.Module:
        """The module at these settings."""
        if isinstance(self.made_from, nn.Module):
            return copy.deepcopy(self.made_from)
        arguments = {self.names[name]: value for name, value in settings.items() if name in self.names}
        tied = {argument: settings[name] for argument, name in self.tied.items()}
        return self.made_from(**{**arguments, **tied, **self.given})

    def constructed(self, settings: Settings, x: Tensor) -> nn.Module:
        """The same, built to its end: what is made lazily by the first call is made for this input."""
        try:
            module = self.construct(settings)
        except WHAT_A_TARGET_RAISES as error:
            told = ", ".join(f"{name}={value}" for name, value in settings.items() if name in self.names)
            raise NotImplementedError(f"constructing it with {told} raised {said(error)}") from error
        if any(is_lazy(parameter) for parameter in module.parameters()):
            with torch.no_grad():
                module.eval()(x.detach().float())
        return module


def settings_in(options: Mapping[str, Any]) -> Settings:
    """What a module is constructed with, of the options of a call."""
    return {name: value for name, value in options.items() if name != "training"}


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shapes of what a state dict holds, by name; counters left out."""
    return {name: tuple(value.shape) for name, value in tensors.items() if value.is_floating_point()}


def difference(got: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], published: str) -> str:
    """In what a state dict is not that of the published module, in a clause; "" where it is."""
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
    return f"state dict is not that of {published}: {'; '.join(parts)}" if parts else ""


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
    sides = st.integers(1, 6).map(lambda side: side * kind.blocks)
    H, W = choose("H", sides), choose("W", sides)
    assume(kind.sees(settings, H, W))
    assume(not training or N * H * W >= LEAST_PIXELS)
    seed = draw(st.integers(0, 2**16))
    C = kind.received(settings)
    shape = (N, H, W, C) if kind.channels_last else (N, C, H, W)
    try:
        parameters = kind.parameters(settings, seed)
    except Exception as error:  # of an operator's own module: anything
        told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise OpbenchError(f"{kind.published} is not defined at what is fixed: {told}") from error
    tensors = {"x": noise(shape, seed), **parameters}
    dtype = TORCH_DTYPES[space.dtype]
    moved = {name: value.to(space.device, dtype) for name, value in tensors.items()}
    return Example(moved, {**settings, "training": training})


def _constructs(core: Core, example: Example) -> None:
    """`ModuleTarget` compares the state dict in every call."""
    run(core, example)


def _is_the_definition(kind: ModuleKind, core: Core, example: Example) -> None:
    """Within what rounding may do to the definition (see `opbench.verify.rounding`)."""
    settings = settings_in(example.options)
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
    counts = {name: pixels for name in leaves if name != "x"}
    terms, basis = rounding_terms(evaluate, exact, expected, cast(DType, dtype), counts)
    try:
        got = answers(core, example, grad_output.to(example.tensors["x"]), leaves)
    except RuntimeError as error:
        if not TORCH_REFUSES_FORMAT.search(text_of(error)):
            raise
        # Some releases of torch lack a backward pass for this memory format: the output can be judged all the same.
        violated(f"raised {said(error)}", example, NO_BACKWARD)
        got = {"output": run(core, example).detach()}
        expected = {"output": expected["output"]}
    verdict = judge(titled(got), titled(expected), titled(terms), dtype, basis)
    record(verdict.worst_ratio)
    if not verdict.correct:
        cause = ""
        if dtype == "float64" and verdict.worst is not None:
            wider, basis = rounding_terms(evaluate, exact, expected, "float32", counts)
            rounded = {name: value.float() for name, value in got.items()}
            cause = FLOAT32_ONLY if judge(rounded, expected, wider, "float32", basis).correct else ""
        violated(verdict.reason, example, cause)


def names_of(kind: ModuleKind) -> Sequence[str]:
    """Every word by which an error message may mean a setting."""
    return (*kind.settings, *kind.aliases)
