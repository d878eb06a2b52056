"""Derivatives of a formula: the second of a function whose first is a kernel, or is computed in place.

`formula(*tensors)` computes the same function in operations that autograd can differentiate any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Formula = Callable[..., Tensor]


def asked_again() -> bool:
    """Whether, in a backward pass, what it computes may itself be differentiated (`create_graph=True`)."""
    return torch.is_grad_enabled() and not torch.compiler.is_compiling()


def first_derivative(
    formula: Formula, grad: Tensor, tensors: Sequence[Tensor | None], wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """The gradients of those `tensors` that are `wanted`, given the output's, each differentiable again; else None."""

    def of(*asked: Tensor) -> Tensor:
        given = iter(asked)
        return formula(*(next(given) if want else tensor for tensor, want in zip(tensors, wanted, strict=True)))

    pull = torch.func.vjp(of, *(tensor for tensor, want in zip(tensors, wanted, strict=True) if want))[1]
    found = iter(pull(grad))
    return tuple(next(found) if want else None for want in wanted)


def second_derivative(
    formula: Formula,
    grad: Tensor,
    tensors: Sequence[Tensor | None],
    wanted: Sequence[bool],
    gradients: Sequence[Tensor],
) -> tuple[Tensor | None, ...]:
    """The gradients of (grad, *tensors), given those of the first derivatives, of which some are `wanted`."""
    present = [index for index, tensor in enumerate(tensors) if tensor is not None]

    def of(grad: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        held = dict(zip(present, given, strict=True))
        found = first_derivative(formula, grad, [held.get(index) for index in range(len(tensors))], wanted)
        return tuple(one for one in found if one is not None)

    pull = torch.func.vjp(of, grad, *(tensors[index] for index in present))[1]
    of_grad, *rest = pull(tuple(one for one, want in zip(gradients, wanted, strict=True) if want))
    made = dict(zip(present, rest, strict=True))
    return of_grad, *(made.get(index) for index in range(len(tensors)))
