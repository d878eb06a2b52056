"""What DCNv2 costs: the closed form, and its core as one dispatched operation that computes nothing, for MAC counters.

Forward, per output pixel and with K = k*k points: the K samples of every input channel, four multiply-adds each with
the mask folded into the bilinear weights, 4KC; then the convolution proper, K*C*O. Backward takes twice that: the
product's two gradients, 2*K*C*O; the scatter to x and the inner products behind the gradients of offset and mask, 8KC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from opbench.operators.common import sampling_cpu
from opbench.schema import Cost, Dims, Implementation


@torch.library.custom_op("opbench::dcnv2_core", mutates_args=())
def _forward(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, stride: int, pad: int, dilation: int, group: int
) -> Tensor:
    return x.new_zeros(x.shape[0], weight.shape[0], *offset.shape[2:])


@_forward.register_fake
def _(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *settings: int) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0], *offset.shape[2:])


@torch.library.custom_op("opbench::dcnv2_core_backward", mutates_args=())
def _backward(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.zeros_like(x), torch.zeros_like(offset), torch.zeros_like(mask), torch.zeros_like(weight)


@_backward.register_fake
def _(grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(offset), torch.empty_like(mask), torch.empty_like(weight)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    gradients = torch.ops.opbench.dcnv2_core_backward(grad, *ctx.saved_tensors)
    return (*gradients, None, None, None, None)


_forward.register_autograd(_differentiate, setup_context=_keep)


def count(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *, stride: int, pad: int, dilation: int, group: int
) -> Tensor:
    """The core as counters see it: the right shapes, all zeros."""
    out: Tensor = torch.ops.opbench.dcnv2_core(x, offset, mask, weight, stride, pad, dilation, group)
    return out


def core_macs(channels: int, outputs: int, points: int, pixels: int) -> int:
    """4KC + K*C*O per output pixel. Backward takes twice that."""
    return (4 + outputs) * points * channels * pixels


def _forward_macs(arguments: Sequence[Any]) -> int:
    x, offset, _, weight, *_ = arguments
    return core_macs(x[1], weight[0], weight[2] * weight[3], x[0] * offset[2] * offset[3])


def _backward_macs(arguments: Sequence[Any]) -> int:
    return 2 * _forward_macs(arguments[1:])


COUNTING = Implementation("counting", count, note="allocates its output and computes nothing")

FORMULAS: Mapping[str, Callable[[Sequence[Any]], int]] = {
    "opbench::dcnv2_core": _forward_macs,
    "opbench::dcnv2_core_backward": _backward_macs,
    **sampling_cpu.FORMULAS,  # the columns of the core `cpu`; its product is one of torch's operations
}


def module_cost(dims: Dims) -> Cost:
    """Parameters 9C^2 + 27G(9C + 1); MACs per pixel 9C^2 + 36C of the core and 243GC of the offset convolution."""
    C, G, pixels = dims["C"], dims["G"], dims["N"] * dims["H"] * dims["W"]
    params = 9 * C * C + 27 * G * (9 * C + 1)
    macs = core_macs(C, C, 9, pixels) + 27 * G * 9 * C * pixels
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=2 * C * pixels + params)
