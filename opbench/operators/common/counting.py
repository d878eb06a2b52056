"""A core as MAC counters see it: one operation that has the core's shapes and computes nothing.

Implementations are many small operations or none that a counter knows, so a module is counted with this in their
place: at the cost of its own convolutions, and whichever implementation is measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from opbench.kernels.operation import define, differentiate, empty_gradients
from opbench.schema import Implementation

# MACs of one call of an operation, given its arguments in order with each tensor replaced by its shape.
MacsOfCall: TypeAlias = Callable[[Sequence[Any]], int]


def zero_core(call: str, shape: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The operation `opbench::CALL`, whose outputs and gradients are zeros, as a function with a core's signature.

    `call` is that signature as torch's schemas write it, tensors first, as in "name(Tensor x, int scale)";
    `shape(*arguments)` allocates the output. `opbench::NAME_backward(grad, *arguments, wanted)` gives the gradients, of
    which those that aren't `wanted` have no elements. What the signature lacks may be given and changes no shape.
    """
    name, _, arguments = call.rstrip(")").partition("(")
    tensors = arguments.count("Tensor ")
    known = re.findall(r"\w+ (\w+)", arguments)

    def zeros(*given: Any) -> Tensor:
        return shape(*given).zero_()

    def gradients(grad: Tensor, *given: Any) -> tuple[Tensor, ...]:
        return empty_gradients(given[:tensors], given[-1])

    def zero_gradients(*given: Any) -> tuple[Tensor, ...]:
        return tuple(gradient.zero_() for gradient in gradients(*given))

    returned = ", ".join(["Tensor"] * tensors)
    backward = f"{name}_backward(Tensor grad, {arguments}, bool[{tensors}] wanted) -> ({returned})"
    define(f"{call} -> Tensor", zeros, shape, devices=("cpu", "cuda"))
    define(backward, zero_gradients, gradients, devices=("cpu", "cuda"))
    differentiate(name, tensors)
    operation = getattr(torch.ops.opbench, name)

    def count(*given: Tensor, **settings: Any) -> Tensor:
        out: Tensor = operation(*given, **{key: value for key, value in settings.items() if key in known})
        return out

    return count


def counting(count: Callable[..., Tensor]) -> Implementation:
    """The implementation that counters of MACs are given."""
    return Implementation("counting", count, note="allocates its output and computes nothing")


def formulas(forward: MacsOfCall, backward: MacsOfCall, *names: str) -> Mapping[str, MacsOfCall]:
    """`forward` of each operation `opbench::NAME`, `backward` of its `opbench::NAME_backward`."""
    return {f"opbench::{name}{part}": macs for name in names for part, macs in (("", forward), ("_backward", backward))}


# --- Backward, (grad, what forward was given, wanted): the last argument says which gradients are wanted --------------


def of_all(forward: MacsOfCall) -> MacsOfCall:
    """Twice forward's, whichever are wanted."""
    return lambda arguments: 2 * forward(arguments[1:-1])


def of_each(forward: MacsOfCall) -> MacsOfCall:
    """As many as forward for each that is wanted."""
    return lambda arguments: sum(map(bool, arguments[-1])) * forward(arguments[1:-1])


def of_x_and_others(forward: MacsOfCall) -> MacsOfCall:
    """As many as forward for x's, and once more for all others, which share them."""

    def backward(arguments: Sequence[Any]) -> int:
        x, *others = arguments[-1]
        return (bool(x) + any(others)) * forward(arguments[1:-1])

    return backward
