"""The gate: one checked call of a built case against its operator's definition. Nothing is timed before it passes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from opbench import registry
from opbench.build import TORCH_DTYPES, Built
from opbench.schema import Device, Terms, Verdict
from opbench.verify.bounds import judge
from opbench.verify.demands import demand
from opbench.verify.rounding.terms import rounding_terms
from opbench.verify.sensitivity import SAMPLES

_GRAD_OUTPUT = "(grad_output)"


@dataclass(frozen=True)
class Reference:
    """The definition's answer for one case: output and gradients in float64, and what their error is measured by."""

    expected: Mapping[str, torch.Tensor]
    terms: Mapping[str, Terms]
    dtype: str
    basis: str = ""

    @property
    def shapes(self) -> Mapping[str, torch.Size]:
        """Of output and gradients, by name."""
        return {name: value.shape for name, value in self.expected.items()}

    def judge(self, got: Mapping[str, object]) -> Verdict:
        """The verdict on a contender's output and gradients by name."""
        return judge(got, self.expected, self.terms, self.dtype, self.basis)


def reference(built: Built) -> Reference:
    """The definition's answer, on the case's device, or on the CPU where that lacks the memory."""
    try:
        return _reference(built, built.case.device)
    except torch.OutOfMemoryError:
        if built.case.device == "cpu":
            raise
    torch.cuda.empty_cache()
    return _reference(built, "cpu")


def _reference(built: Built, device: Device) -> Reference:
    """Evaluates the definition on the case's own rounded values. Implementations of one operator share the answer.

    In float64 on the case's device: the definition of 64x56x56x128 samples and all its gradients takes minutes on a
    CPU and a second on a GPU. Both compute the same formula, which the GPU's tests hold against the CPU's.
    """
    case, operator = built.case, built.operator
    dims = registry.given(case)
    grad_output = None if built.grad_output is None else built.grad_output.to(device, torch.float64)

    def evaluate(given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors = {name: value.detach().requires_grad_(name in built.differentiated) for name, value in given.items()}
        grad_output = tensors.pop(_GRAD_OUTPUT, None)
        output = operator.definition(dims, tensors, case.mode == "training")
        if grad_output is None:
            return {"output": output.detach()}
        leaves = [tensors[name] for name in built.differentiated]
        gradients = torch.autograd.grad(output, leaves, grad_output)
        return {"output": output.detach(), **dict(zip(built.differentiated, gradients, strict=True))}

    # What the output is differentiated by is an input like any other: rounding moves the gradients through it.
    values = {name: value.to(device) for name, value in built.tensors.items()}
    # A network's definition is the layers of others around cores that are held to this by themselves.
    if operator.samples <= SAMPLES:
        demand(case.task, case.operator, dims, values, case.mode == "training")
    tensors = values if grad_output is None else {**values, _GRAD_OUTPUT: grad_output}
    expected = evaluate(tensors)
    # A parameter's gradient sums over the pixels of the output (N, C, ...).
    pixels = 1 if grad_output is None else grad_output[:, 0].numel()
    counts = {name: pixels for name in built.differentiated if name in dict(built.module.named_parameters())}
    terms, basis = rounding_terms(evaluate, tensors, expected, case.dtype, counts, operator.samples)
    if operator.magnitude is not None and not basis:
        plain = operator.magnitude(dims, values, grad_output)
        terms = {name: replace(plain[name], bound=derived.bound) for name, derived in terms.items()}
    return Reference(expected=expected, terms=terms, dtype=case.dtype, basis=basis)


def call(built: Built) -> dict[str, torch.Tensor | None]:
    """One call of the case as it is timed: the output, and in training mode every gradient, by name."""
    if built.grad_output is None:
        with torch.inference_mode():
            return {"output": built.module(*built.inputs)}
    output = built.module(*built.inputs)
    gradients = torch.autograd.grad(output, built.leaves(), built.grad_output, allow_unused=True)
    return {"output": output.detach(), **dict(zip(built.differentiated, gradients, strict=True))}


def check(built: Built, expected: Reference) -> Verdict:
    """Judges a call whose fresh memory was poisoned with NaN first, and that must leave its inputs alone."""
    before = [value.detach().clone() for value in built.inputs]
    with recycled(expected) if registry.opaque(built.case, built.operator) else poisoned():
        got = call(built)
    if reason := disowned(got["output"], built.inputs):
        return Verdict(False, float("inf"), None, float("inf"), float("inf"), 0, sampled=False, reason=reason)
    verdict = expected.judge(got)
    for name, old, new in zip(built.tensors, before, built.inputs, strict=False):
        if verdict.correct and not torch.equal(old, new.detach()):
            return Verdict(
                correct=False,
                worst_ratio=float("inf"),
                worst=None,
                max_error=verdict.max_error,
                rms_error=verdict.rms_error,
                judged=verdict.judged,
                sampled=False,
                reason=f"{name}: the call changed its input",
            )
    return verdict


def disowned(output: object, inputs: Sequence[torch.Tensor]) -> str:
    """Why an output isn't a plain tensor in memory of its own; "" where it is."""
    if type(output) is not torch.Tensor:
        return f"the output is a {type(output).__name__}, expected a plain torch.Tensor"
    for value in inputs:
        if shares_memory(output, value):
            return "the output is a view of an input"
    return ""


def shares_memory(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors lie in one storage, empty ones aside."""
    ours, theirs = first.untyped_storage(), second.untyped_storage()
    return ours.data_ptr() == theirs.data_ptr() != 0


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Every `torch.empty` inside is filled with NaN: memory that is never written can't look right by luck."""
    was_on = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            # Deterministic mode is only a means to the fill here; what it warns of concerns no one.
            warnings.filterwarnings("ignore", message=".*deterministic.*")
            yield
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


@contextlib.contextmanager
def recycled(expected: Reference) -> Iterator[None]:
    """The weaker poison for compiled code, which deterministic mode would compile again: freed NaN-filled blocks.

    The allocator hands blocks of the sizes of the expected tensors back to the next caller that asks for them.
    """
    device = next((value.device for value in expected.expected.values()), None)
    dtype = TORCH_DTYPES[expected.dtype]
    blocks = [torch.full(shape, torch.nan, dtype=dtype, device=device) for shape in expected.shapes.values()]
    del blocks
    yield
