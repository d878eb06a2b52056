"""Build: a case -> the module that is measured and its seeded inputs.

Inputs depend on the seed, task and workload alone, parameters also on the operator: every contender of a panel sees
the same input, and every implementation of an operator the same parameters, on any machine: all are drawn on the CPU,
whatever the device. What was drawn last is kept, as at the sizes that fill a GPU drawing takes longer than all else,
and the contenders, dtypes and modes of a workload follow each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from opbench import registry
from opbench.runtimes import RUNTIMES
from opbench.schema import (
    DEFAULT_MEMORY_FORMAT,
    DEFAULT_RUNTIME,
    RUNNING,
    Case,
    Dims,
    Implementation,
    Inputs,
    OpbenchError,
    Operator,
)
from opbench.seeds import seed_of

TORCH_DTYPES: Mapping[str, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
MEMORY_FORMATS: Mapping[str, torch.memory_format] = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


@dataclass(frozen=True)
class Built:
    """A case ready to be called: `module(*inputs)`.

    `tensors` holds every value the operator computes with by name, exactly as rounded to the case's dtype, in float64
    on the case's device: what the definition is evaluated on, so that rounding the inputs is nobody's error.
    `differentiated` names those a training call must produce gradients for.
    """

    case: Case
    operator: Operator
    module: torch.nn.Module
    inputs: tuple[torch.Tensor, ...]
    tensors: Mapping[str, torch.Tensor]
    differentiated: tuple[str, ...]
    grad_output: torch.Tensor | None

    def leaves(self) -> tuple[torch.Tensor, ...]:
        """The tensors named by `differentiated`, as the module holds them."""
        input_names = list(self.tensors)[: len(self.inputs)]
        held = {**dict(zip(input_names, self.inputs, strict=True)), **dict(self.module.named_parameters())}
        return tuple(held[name] for name in self.differentiated)

    def call_once(self) -> None:
        """One call, in training forward and backward; nothing of it is kept."""
        if self.grad_output is None:
            with torch.no_grad():
                self.module(*self.inputs)
        else:
            output = self.module(*self.inputs)
            torch.autograd.grad(output, self.leaves(), self.grad_output, allow_unused=True)


def seed_text(case: Case) -> str:
    """What everything that a case draws is seeded by; parameters by the operator's name too."""
    return f"{case.seed}/{case.task}/{case.workload}"


def input_source(case: Case, operator: Operator) -> tuple[Inputs, Dims]:
    """What draws a case's inputs, and of which dims: the operator's own inputs, or else those that its task shares."""
    shared = registry.tasks()[case.task].inputs
    source = operator.inputs or shared
    assert source is not None
    # What a task shares depends on nothing of the operator's own.
    return source, case.dims if source is shared else registry.given(case)


def build(case: Case, implementation: Implementation | None = None) -> Built:
    """Builds the case's module and inputs. `implementation` replaces the case's own (for counting)."""
    operator = registry.operator(case.task, case.operator)
    chosen = implementation or operator.implementations[case.implementation]
    dtype = TORCH_DTYPES[case.dtype]
    training = case.mode == "training"
    shared = seed_text(case)

    dims = registry.given(case)
    source, of_inputs = input_source(case, operator)
    drawn = (source, tuple(of_inputs.items()), case.spread or 0.0, shared)
    inputs = _inputs(*drawn)
    module = operator.module(dims, chosen).double()
    _costed(operator, dims, module)
    first = next(iter(operator.implementations.values()))
    kept = _Kept(operator.module, operator.prepare, first, case.operator, tuple(dims.items()), operator.drawn)
    module.load_state_dict(_parameters(kept, *drawn))
    module = module.to(dtype).to(case.device).train(training)
    if case.memory_format != DEFAULT_MEMORY_FORMAT:
        module = module.to(memory_format=MEMORY_FORMATS[case.memory_format])  # type: ignore[call-overload]
    # A copy of its own: a contender may change its inputs, and is then told so.
    rounded = {
        name: laid_out(value.to(dtype, copy=True).to(case.device), case.memory_format) for name, value in inputs.items()
    }
    # Copies: a module in training mode updates its running statistics in place. A definition is of values, however
    # they lie: it may view what it is given.
    kept_as = torch.preserve_format if case.memory_format == DEFAULT_MEMORY_FORMAT else torch.contiguous_format
    tensors = {
        name: value.detach().to(torch.float64, copy=True, memory_format=kept_as)
        for name, value in {**rounded, **module.state_dict()}.items()
        if value.is_floating_point()
    }
    differentiated = (*rounded, *trained(module)) if training else ()
    grad_output = None
    if training:
        draw = _normal(output_shape(case, tensors), f"{shared}/grad")
        grad_output = laid_out(draw.to(dtype, copy=True).to(case.device), case.memory_format)
    leaves = tuple(value.requires_grad_(training) for value in rounded.values())
    if case.runtime != DEFAULT_RUNTIME:
        module = RUNTIMES[case.runtime].load()(module, leaves, torch.get_num_threads())
    return Built(case, operator, module, leaves, tensors, differentiated, grad_output)


def laid_out(value: torch.Tensor, memory_format: str) -> torch.Tensor:
    """The tensor in a memory format; as it is in the default one, or if it is no image: one has four axes."""
    if memory_format == DEFAULT_MEMORY_FORMAT or value.ndim != 4:
        return value
    return value.contiguous(memory_format=MEMORY_FORMATS[memory_format])


def _costed(operator: Operator, dims: Dims, module: torch.nn.Module) -> None:
    """Raises OpbenchError where the closed form has other parameters than the module: one of them is of another."""
    declared, held = operator.cost(dims).params, sum(value.numel() for value in module.parameters())
    if declared != held:
        raise OpbenchError(
            f"{operator.task}/{operator.name} (declared in {operator.definition.__module__}): its cost says "
            f"{declared:,} parameters, its module has {held:,}"
        )


# Two: operators of one task may declare the same inputs by functions of their own.
@lru_cache(maxsize=2)
def _inputs(
    draw: Callable[[Dims, float, torch.Generator], dict[str, torch.Tensor]],
    dims: tuple[tuple[str, int], ...],
    spread: float,
    shared: str,
) -> Mapping[str, torch.Tensor]:
    return draw(dict(dims), spread, _generator(shared))


@dataclass(frozen=True)
class _Kept:
    """What an operator's parameters depend on, beside its input."""

    make: Callable[[Dims, Implementation], torch.nn.Module]
    prepare: Callable[[torch.nn.Module, Dims, float, torch.Generator, torch.Tensor], None] | None
    implementation: Implementation
    operator: str
    dims: tuple[tuple[str, Any], ...]
    drawn: tuple[str, ...]


@lru_cache(maxsize=8)
def _parameters(
    kept: _Kept,
    draw: Callable[[Dims, float, torch.Generator], dict[str, torch.Tensor]],
    dims: tuple[tuple[str, int], ...],
    spread: float,
    shared: str,
) -> Mapping[str, torch.Tensor]:
    """Parameters and running statistics by name, in float64: those of every implementation of the operator."""
    with torch.random.fork_rng(devices=[]):  # the module's own initial values are nobody's draw
        module = kept.make(dict(kept.dims), kept.implementation).double()
    generator = _generator(f"{shared}/{kept.operator}")
    draw_parameters(module, generator, kept.drawn)
    if kept.prepare is not None:
        inputs = _inputs(draw, dims, spread, shared)
        kept.prepare(module.eval(), dict(kept.dims), spread, generator, next(iter(inputs.values())))
    return module.state_dict()


@lru_cache(maxsize=1)
def _normal(shape: torch.Size, text: str) -> torch.Tensor:
    return torch.randn(shape, generator=_generator(text), dtype=torch.float64)


def trained(module: torch.nn.Module) -> tuple[str, ...]:
    """The names of the parameters that a training call must produce gradients for: those that aren't frozen."""
    return tuple(name for name, value in module.named_parameters() if value.requires_grad)


def draw_parameters(module: torch.nn.Module, generator: torch.Generator, drawn: tuple[str, ...] = RUNNING) -> None:
    """Draws every parameter and running statistic so that nothing is degenerate: no zero bias, no unit scale.

    Matrices and kernels get standard deviation 1/sqrt(fan-in), which keeps activations near unit variance. A frozen
    parameter, and a buffer whose name doesn't end in one of `drawn`, is a constant of the network and stays.
    """
    frozen = {name for name, value in module.named_parameters() if not value.requires_grad}
    frozen |= {name for name, _ in module.named_buffers() if not name.endswith(drawn)}
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name in frozen or not value.is_floating_point():
                continue
            normal = torch.randn(value.shape, generator=generator, dtype=value.dtype)
            if name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator, dtype=value.dtype))
            elif value.ndim >= 2:
                value.copy_(normal / max(1, value[0].numel()) ** 0.5)
            elif name.endswith("weight"):
                value.copy_(1 + 0.1 * normal)
            else:
                value.copy_(0.1 * normal)


def output_shape(case: Case, tensors: Mapping[str, torch.Tensor]) -> torch.Size:
    """The shape of the definition's output, not the contender's: none can choose what it is differentiated by."""
    shapes = tuple((name, tuple(value.shape)) for name, value in tensors.items())
    dims = tuple(registry.given(case).items())
    return _output_shape(case.task, case.operator, dims, shapes, case.mode == "training")


@lru_cache(maxsize=256)
def _output_shape(
    task: str,
    operator: str,
    dims: tuple[tuple[str, Any], ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    training: bool,
) -> torch.Size:
    """Shapes alone decide it. Finding out on meta tensors takes longer than many a call: once for all contenders."""
    try:
        with torch.no_grad():
            return on_meta(registry.operator(task, operator), dims, shapes, training).shape
    except Exception as error:
        raise OpbenchError(f"{task}/{operator}: its definition {not_on_meta(error)}") from error


def on_meta(
    operator: Operator,
    dims: tuple[tuple[str, Any], ...],
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    training: bool,
) -> torch.Tensor:
    """An operator's definition of tensors that have shapes and no values."""
    meta = {name: torch.empty(shape, dtype=torch.float64, device="meta") for name, shape in shapes}
    return operator.definition(dict(dims), meta, training)


def not_on_meta(error: Exception) -> str:
    """What an exception there says of the definition."""
    first = (str(error).splitlines() or [""])[0]
    return (
        f"can't be evaluated on meta tensors, for it reads values or has shapes that depend on them "
        f"({type(error).__name__}: {first})"
    )


def _generator(text: str) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(text))
