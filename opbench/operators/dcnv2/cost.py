"""What DCNv2 costs: the closed form, and its core as one dispatched operation that computes nothing, for MAC counters.

Forward, per output pixel and with K = k*k points: the K samples of every input channel, four multiply-adds each with
the mask folded into the bilinear weights, 4KC; then the convolution proper, K*C*O. Backward takes twice that: the
product's two gradients, 2*K*C*O; the scatter to x and the inner products behind the gradients of offset and mask, 8KC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from opbench.operators.common import sampling_cpu
from opbench.operators.common.counting import counting, formulas, of_all, zero_core
from opbench.schema import Cost, Dims


def _shape(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *settings: int) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0], *offset.shape[2:])


COUNTING = counting(
    zero_core(
        "dcnv2_core(Tensor x, Tensor offset, Tensor mask, Tensor weight, int stride, int pad, int dilation, int group)",
        _shape,
    )
)


def core_macs(channels: int, outputs: int, points: int, pixels: int) -> int:
    """4KC + K*C*O per output pixel. Backward takes twice that."""
    return (4 + outputs) * points * channels * pixels


def _macs(arguments: Sequence[Any]) -> int:
    x, offset, _, weight, *_ = arguments
    return core_macs(x[1], weight[0], weight[2] * weight[3], x[0] * offset[2] * offset[3])


FORMULAS = {
    **formulas(_macs, of_all(_macs), "dcnv2_core"),
    **sampling_cpu.FORMULAS,  # the columns of the core `cpu`; its product is one of torch's operations
}


def module_cost(dims: Dims) -> Cost:
    """Parameters 9C^2 + 27G(9C + 1); MACs per pixel 9C^2 + 36C of the core and 243GC of the offset convolution."""
    C, G, pixels = dims["C"], dims["G"], dims["N"] * dims["H"] * dims["W"]
    params = 9 * C * C + 27 * G * (9 * C + 1)
    macs = core_macs(C, C, 9, pixels) + 27 * G * 9 * C * pixels
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=2 * C * pixels + params)
