"""What a target computes once torch.compile, torch.export or an ONNX exporter has taken it: `--compile`, `--export`.

Each is held against the target as it runs eagerly, which all other relations hold against the definition. Taking it
costs seconds to minutes, so that two calls are enough, and they are no part of a check's time.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from opbench.conformance.precision import violated
from opbench.conformance.promises.promise import LONGEST_SAID
from opbench.conformance.promises.subject import difference
from opbench.conformance.raised import WHAT_A_TARGET_RAISES
from opbench.errors import said
from opbench.operators.common import compiling
from opbench.relations import Core, Example, Relation, Space, Violation
from opbench.runtimes import RUNTIMES

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

# Of the largest value: what another order of summation comes to.
REORDERED = 1e-3
# Each is taken anew.
DEPLOYED_EXAMPLES = 2


@dataclass(frozen=True)
class DeployedWay:
    """A way out of eager mode: the runtime that takes it, in which words, and whether gradients are asked for too."""

    name: str
    runtime: str
    called: str
    gradients: bool
    missing: Callable[[], str | None]


COMPILED = DeployedWay("torch-compile", "torch-compile", "under torch.compile", True, compiling.missing)
EXPORTED = DeployedWay("torch-export", "torch-export", "exported by torch.export", False, lambda: None)
ONNX = DeployedWay("onnx", "onnxruntime", "exported to ONNX", False, RUNTIMES["onnxruntime"].missing)


class NotTaken(Exception):
    """Why a target can't go such a way, in the words of what refused it."""


def deployed_ways(compiled: bool, exported: bool) -> tuple[tuple[DeployedWay, ...], tuple[str, ...]]:
    """Those that were asked for and can run here, and in a sentence each why others can't."""
    asked = [*([COMPILED] if compiled else []), *([EXPORTED, ONNX] if exported else [])]
    lacking = {way: way.missing() for way in asked}
    can = tuple(way for way, reason in lacking.items() if reason is None)
    return can, tuple(f"{way.name}: {reason}" for way, reason in lacking.items() if reason is not None)


def deployed_relations(
    ways: Sequence[DeployedWay],
    made: Callable[[Example], tuple[nn.Module, tuple[Tensor, ...]]],
    draws: Callable[[Space], SearchStrategy[Example]],
) -> tuple[Relation, ...]:
    """One for each way; `made` gives of an example the module that is taken, and its inputs."""

    def of(way: DeployedWay) -> Relation:
        def check(core: Core, example: Example) -> None:
            try:
                fault = differs(way, *made(example))
            except NotTaken as reason:
                violated(
                    str(reason), example, f"can't be {way.called}" if way is not COMPILED else f"breaks {way.called}"
                )
                return
            if fault:
                raise Violation(f"{fault} {way.called}", example)

        what = "output and gradients are" if way.gradients else "the output is"
        statement = f"{way.called}, {what} what it computes eagerly"
        return Relation(way.name, "bounded", statement, check, draws, needs_gradients=way.gradients)

    return tuple(map(of, ways))


def differs(way: DeployedWay, module: nn.Module, inputs: tuple[Tensor, ...]) -> str | None:
    """In what it differs from what the module computes eagerly; NotTaken where it can't be had so.

    What the module itself raises, called eagerly, is raised.
    """
    module = module.eval()
    expected = _answers(module, inputs, way.gradients)
    with _quiet():
        try:
            executed = RUNTIMES[way.runtime].load()(module, inputs, 1)
            got = _answers(executed, inputs, way.gradients)
        except WHAT_A_TARGET_RAISES as error:
            raise NotTaken(f"{way.called} it raises {said(error, LONGEST_SAID)}") from error
        fault = difference(got, expected, REORDERED)
        if fault is None and way is COMPILED:
            breaks = _graph_breaks(module, inputs)
            if breaks:
                raise NotTaken(breaks)
    return fault


def _answers(module: nn.Module, inputs: tuple[Tensor, ...], gradients: bool) -> list[Tensor]:
    """The first tensor that it gives; with `gradients`, also those of its inputs and its parameters."""
    given = tuple(x.detach().clone().requires_grad_(gradients) for x in inputs)
    with torch.enable_grad() if gradients else torch.no_grad():
        out = next(leaf for leaf in tree_leaves(module(*given)) if isinstance(leaf, Tensor))
    if not gradients or not out.requires_grad:
        return [out.detach()]
    wanted = [*given, *(one for one in module.parameters() if one.requires_grad)]
    incoming = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out)
    found = torch.autograd.grad(out, wanted, incoming, allow_unused=True, materialize_grads=True)
    return [out.detach(), *found]


def _graph_breaks(module: nn.Module, inputs: tuple[Tensor, ...]) -> str:
    """Where a compiled graph ends in the middle of the module, which costs what compiling was to save."""
    torch.compiler.reset()
    with torch.no_grad():
        told = torch._dynamo.explain(module)(*inputs)
    if not told.graph_break_count:
        return ""
    first = told.break_reasons[0]
    at = f" (line {first.user_stack[-1].lineno}: {first.user_stack[-1].line})" if first.user_stack else ""
    reason = first.reason.strip().splitlines()[0]
    often = "once" if told.graph_break_count == 1 else f"{told.graph_break_count} times"
    return f"its graph breaks {often}: {reason}{at}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Compilers warn at length, start processes of their own, and remember what they compiled."""
    import torch._inductor.config as inductor

    torch.compiler.reset()
    with warnings.catch_warnings(), inductor.patch(compile_threads=1):
        warnings.simplefilter("ignore")
        yield


class CalledAsModule(nn.Module):
    """A function as a module: its tensors in order, its options held."""

    def __init__(self, function: Callable[..., Tensor], names: Sequence[str], options: Mapping[str, Any]) -> None:
        super().__init__()
        self.function = function
        self.names = tuple(names)
        self.options = dict(options)

    def forward(self, *tensors: Tensor) -> Tensor:
        """The function of these tensors."""
        return self.function(**dict(zip(self.names, tensors, strict=True)), **self.options)


def of_function(function: Callable[..., Tensor]) -> Callable[[Example], tuple[nn.Module, tuple[Tensor, ...]]]:
    """A core as a module of its tensors, for `deployed_relations`."""

    def made(example: Example) -> tuple[nn.Module, tuple[Tensor, ...]]:
        return CalledAsModule(function, tuple(example.tensors), example.options), tuple(example.tensors.values())

    return made
