"""What the convolution of clamped samples costs, and the same as one dispatched operation that computes nothing.

Forward, of P samples an output pixel: four multiply-adds for each channel, 4PC, then the product with the weights,
P*C*O. Backward takes twice that: the product's two gradients, and 8PC for the scatter to x and for the four inner
products <grad, corner> that the gradients of a place are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from opbench.schema import Implementation


@torch.library.custom_op("opbench::clamped_core", mutates_args=())
def _forward(x: Tensor, rows: Tensor, columns: Tensor, weight: Tensor) -> Tensor:
    return x.new_zeros(x.shape[0], weight.shape[0], *rows.shape[2:])


@_forward.register_fake
def _(x: Tensor, rows: Tensor, columns: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0], *rows.shape[2:])


@torch.library.custom_op("opbench::clamped_core_backward", mutates_args=())
def _backward(
    grad: Tensor, x: Tensor, rows: Tensor, columns: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.zeros_like(x), torch.zeros_like(rows), torch.zeros_like(columns), torch.zeros_like(weight)


@_backward.register_fake
def _(grad: Tensor, x: Tensor, rows: Tensor, columns: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(rows), torch.empty_like(columns), torch.empty_like(weight)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    gradients: tuple[Any, ...] = torch.ops.opbench.clamped_core_backward(grad, *ctx.saved_tensors)
    return gradients


_forward.register_autograd(_differentiate, setup_context=_keep)


def count(x: Tensor, rows: Tensor, columns: Tensor, weight: Tensor, *, twice: bool = False) -> Tensor:
    """The core as counters see it: the right shapes, all zeros."""
    out: Tensor = torch.ops.opbench.clamped_core(x, rows, columns, weight)
    return out


def core_macs(channels: int, outputs: int, samples: int) -> int:
    """(4 + O) * C for each of the N*P*Ho*Wo samples. Backward takes twice that."""
    return (4 + outputs) * channels * samples


def _forward_macs(arguments: Sequence[Any]) -> int:
    x, rows, _, weight = arguments[:4]
    return core_macs(x[1], weight[0], prod(rows))


def _backward_macs(arguments: Sequence[Any]) -> int:
    return 2 * _forward_macs(arguments[1:])


def _sampled_macs(arguments: Sequence[Any]) -> int:
    """4C of each sample; of a group, 4C/G."""
    x, positions, _, group = arguments[:4]
    return int(4 * x[3] // group * (prod(positions) // 2))


def _sampled_backward_macs(arguments: Sequence[Any]) -> int:
    """As much as forward for the gradient of x, and once more for those of positions and weights, which share it."""
    x, positions, weights = arguments[-1]
    return (bool(x) + bool(positions or weights)) * _sampled_macs(arguments[1:])


COUNTING = Implementation("counting", count, note="allocates its output and computes nothing")

FORMULAS: Mapping[str, Callable[[Sequence[Any]], int]] = {
    "opbench::clamped_core": _forward_macs,
    "opbench::clamped_core_backward": _backward_macs,
    "opbench::sampling_cpu": _sampled_macs,
    "opbench::sampling_cpu_backward": _sampled_backward_macs,
}
