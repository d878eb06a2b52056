"""The oracle of a core: its definition in float64, and how a core's answers are compared with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from opbench.conformance.comparing import close, run
from opbench.conformance.strategies import noise_like
from opbench.relations import Core, Example, Violation
from opbench.schema import Terms

Held = TypeVar("Held")
Magnitude = Callable[[Example, Tensor | None], Mapping[str, Terms]]


@dataclass(frozen=True)
class Oracle:
    """What a core is held to.

    `definition` has the core's signature. `magnitude(example, grad_output)` gives, of a float64 example, the `Terms`
    of "output" and, given grad_output, of the gradient of each tensor by name.
    """

    definition: Core
    magnitude: Magnitude

    def terms(self, example: Example, grad_output: Tensor | None = None) -> Mapping[str, Terms]:
        """What rounding errors on this example are measured against."""
        return self.magnitude(exact(example), None if grad_output is None else grad_output.detach().double().cpu())

    def output(self, example: Example) -> Tensor:
        """The definition's output in float64 on the CPU."""
        return self.definition(**exact(example).tensors, **example.options)

    def close(self, got: Tensor, example: Example, what: str = "output") -> None:
        """Raises Violation unless an output is the definition's, within the error bound."""
        close(got.detach().cpu(), self.output(example), self.terms(example)["output"], example, what, sides=1)

    def close_answers(self, got: Mapping[str, Tensor], example: Example, grad_output: Tensor) -> None:
        """Raises Violation unless a core's `answers` are the definition's, within the error bound."""
        expected = answers(self.definition, exact(example), grad_output.detach().double().cpu())
        terms = self.terms(example, grad_output)
        for name, value in expected.items():
            close(got[name].cpu(), value, terms[name], example, title(name), sides=1)


def title(name: str) -> str:
    """What messages call one of the `answers`."""
    return name if name == "output" else f"gradient of {name}"


def titled(values: Mapping[str, Held]) -> dict[str, Held]:
    """The same by what messages call them."""
    return {title(name): value for name, value in values.items()}


def exact(example: Example) -> Example:
    """The same call on the same values in float64 on the CPU, contiguous."""
    return example.replace(
        None,
        **{name: tensor.detach().to("cpu", torch.float64).contiguous() for name, tensor in example.tensors.items()},
    )


def differentiable(core: Core, example: Example, names: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """The core's output, and the tensors it was called with, of which those in `names` ask for a gradient.

    Raises Violation where the output can't be differentiated.
    """
    leaves = {name: tensor.detach().requires_grad_(name in names) for name, tensor in example.tensors.items()}
    with torch.enable_grad():
        out = run(core, example.replace(None, **leaves))
    if not out.requires_grad:
        raise Violation(f"output: expected it to be differentiable in {', '.join(names)}, got one that is not", example)
    return out, leaves


def answers(
    core: Core, example: Example, grad_output: Tensor | None = None, names: Iterable[str] | None = None
) -> dict[str, Tensor]:
    """The core's "output", detached, and the gradients of the tensors in `names` (all unless told), by name.

    Without grad_output, noise. Raises Violation where a gradient does not come.
    """
    wanted = tuple(example.tensors if names is None else names)
    out, leaves = differentiable(core, example, wanted)
    if grad_output is None:
        grad_output = noise_like(out, seed=1)
    elif grad_output.shape != out.shape:
        raise Violation(f"output: expected shape {tuple(grad_output.shape)}, got {tuple(out.shape)}", example)
    gradients = torch.autograd.grad(out, [leaves[name] for name in wanted], grad_output.to(out), allow_unused=True)
    found: dict[str, Tensor] = {"output": out.detach()}
    for name, gradient in zip(wanted, gradients, strict=True):
        if gradient is None:
            raise Violation(f"gradient of {name}: expected a tensor, got None", example)
        found[name] = gradient
    return found
