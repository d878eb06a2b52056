"""Enters a function and its gradient into torch's dispatcher as operations of their own.

As such they are opaque to `torch.compile` and `torch.export`, which see their shapes only, and counters see them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from opbench.kernels.twice import Formula, second_derivative

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

_library = torch.library.Library("opbench", "FRAGMENT")


def define(
    schema: str,
    compute: Callable[..., Any],
    shapes: Callable[..., Any],
    *,
    devices: Sequence[str] = ("cpu",),
    apart: Collection[int] = (),
) -> None:
    """Adds `opbench::<schema>`: `compute` runs on tensors of the devices, `shapes` on tensors without data.

    Under autocast its floating inputs are cast to the widest of their dtypes, as `grid_sample`'s are: an operation
    that sums over a mask gains nothing from narrower inputs, and sampling offsets lose pixels in them. The arguments
    whose numbers are in `apart` have a dtype of their own, and keep it.
    """
    name = schema.split("(", 1)[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.register_fake(f"opbench::{name}", shapes, lib=_library)
    for device in devices:
        _library.impl(name, compute, device.upper())
        _library.impl(name, _promoted(name, device, apart), f"Autocast{device.upper()}")


def refuse_forward_mode(name: str, *tensors: Tensor) -> None:
    """Raises NotImplementedError where a tensor carries a tangent (`torch.func.jvp`, `torch.autograd.forward_ad`).

    torch takes an operation with a backward formula alone for one whose tangent is 0, and says nothing.
    """
    if forward_ad._current_level < 0:
        return
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise NotImplementedError(
            f"{name}: forward-mode derivatives are not implemented; use reverse mode, or an implementation in plain "
            "torch operations"
        )


def check_gradient(grad: Tensor, x: Tensor, expected: tuple[int, ...]) -> None:
    """Raises ValueError for an output's gradient that has not the output's shape, `expected`, and x's dtype."""
    if grad.shape != expected or grad.dtype != x.dtype:
        raise ValueError(f"grad is {grad.dtype} {tuple(grad.shape)}; expected the output's, {x.dtype} {expected}")


def empty_gradients(tensors: Sequence[Tensor], wanted: Sequence[bool]) -> tuple[Tensor, ...]:
    """Contiguous, of each tensor; one that isn't wanted has no elements."""
    return tuple(
        torch.empty(t.shape if w else 0, dtype=t.dtype, device=t.device) for t, w in zip(tensors, wanted, strict=True)
    )


def _promoted(name: str, device: str, apart: Collection[int]) -> Callable[..., Any]:
    def promoted(*arguments: Any) -> Any:
        floating = [isinstance(a, Tensor) and a.is_floating_point() and i not in apart for i, a in enumerate(arguments)]
        widest = reduce(torch.promote_types, (a.dtype for a, yes in zip(arguments, floating, strict=True) if yes))
        cast = [a.to(widest) if yes else a for a, yes in zip(arguments, floating, strict=True)]
        with torch.autocast(device, enabled=False):
            return getattr(torch.ops.opbench, name)(*cast)

    return promoted


def differentiate(name: str, tensors: int, formula: Formula | None = None) -> None:
    """Gives `opbench::<name>` its gradient with respect to its first arguments, so many `tensors`.

    `opbench::<name>_backward` computes it, from the output's gradient, those tensors, whatever the operation returned
    beside its output, its other arguments, and which gradients are wanted. Second derivatives are autograd's of
    `formula(*tensors, *others)`, which computes the operation's output in plain torch operations. Without a formula
    they raise NotImplementedError: torch would warn, take the first for constants, and give wrong ones.
    """

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        beside = output[1:] if isinstance(output, tuple) else ()
        ctx.mark_non_differentiable(*beside)
        ctx.save_for_backward(*inputs[:tensors], *beside)
        ctx.others = inputs[tensors:]

    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        wanted = list(ctx.needs_input_grad[:tensors])
        operation = getattr(torch.ops.opbench, f"{name}_backward")
        gradients = operation(grad, *ctx.saved_tensors, *ctx.others, wanted)
        return *(g if w else None for g, w in zip(gradients, wanted, strict=True)), *[None] * len(ctx.others)

    def keep_again(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        grad, *given, ctx.wanted = inputs
        ctx.save_for_backward(grad, *given[:tensors])
        # What the operation returned beside its output is a function of the tensors, and so part of the formula.
        ctx.others = [value for value in given[tensors:] if not isinstance(value, Tensor)]
        ctx.rest = len(given) - tensors + 1

    def again(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        if formula is None:
            raise NotImplementedError(f"{name}: second derivatives are not implemented (was create_graph=True meant?)")
        grad, *given = ctx.saved_tensors
        others = ctx.others
        found = second_derivative(lambda *held: formula(*held, *others), grad, given, ctx.wanted, gradients)
        return (*found, *[None] * ctx.rest)

    torch.library.register_autograd(f"opbench::{name}", backward, setup_context=keep, lib=_library)
    torch.library.register_autograd(f"opbench::{name}_backward", again, setup_context=keep_again, lib=_library)
