"""DCNv3's core on the CPU: `dcnv3_cpu`, `dcnv3_cpu_logits`, and their operations in torch's dispatcher.

Axes: x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P), out (N, Ho, Wo, C). float64, float32, and
bfloat16 and float16 with locations, weights and sums in float32. Inputs are read in place where their last axis is
dense, and copied first where it isn't; results are contiguous.

`dcnv3_cpu_logits` takes logits (N, Ho, Wo, G*P): their softmax over the points of a group is made in a block's tile,
forward and again in backward, and never written. Half-precision weights are not rounded.

A sample that isn't strictly inside (-1, W) x (-1, H), or isn't a number, contributes nothing and gets no gradient;
nothing outside x is read. Two runs agree bit for bit, whatever the number of threads (`sampling_call`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from opbench.kernels.cpu.sampling_call import SamplingCall, Window
from opbench.kernels.dcnv3_shapes import check, checked_gradients, checked_output, gradients
from opbench.kernels.formulas import windowed, windowed_from_logits
from opbench.kernels.operation import define, differentiate, refuse_forward_mode


def dcnv3_cpu(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    kernel_size: int,
    stride: int = 1,
    pad: int,
    dilation: int = 1,
    group: int,
    offset_scale: float = 1.0,
    remove_center: bool = False,
) -> Tensor:
    """x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P) -> (N, Ho, Wo, C)."""
    refuse_forward_mode("dcnv3_cpu", x, offset, mask)
    out: Tensor = torch.ops.opbench.dcnv3_cpu(
        x, offset, mask, kernel_size, stride, pad, dilation, group, offset_scale, remove_center
    )
    return out


def dcnv3_cpu_logits(
    x: Tensor,
    offset: Tensor,
    logits: Tensor,
    *,
    kernel_size: int,
    stride: int = 1,
    pad: int,
    dilation: int = 1,
    group: int,
    offset_scale: float = 1.0,
    remove_center: bool = False,
) -> Tensor:
    """`dcnv3_cpu` of the softmax of `logits` (N, Ho, Wo, G*P) over the points of each group, which is never written."""
    refuse_forward_mode("dcnv3_cpu_logits", x, offset, logits)
    out: Tensor = torch.ops.opbench.dcnv3_cpu_logits(
        x, offset, logits, kernel_size, stride, pad, dilation, group, offset_scale, remove_center
    )
    return out


def _call(x: Tensor, offset: Tensor, mask: Tensor, parameters: tuple[Any, ...], *, logits: bool) -> SamplingCall:
    points, _, _ = check(x, offset, mask, *parameters)
    size, stride, pad, dilation, groups, scale, remove_center = parameters
    window = Window(size, stride, pad, dilation, scale, remove_center)
    return SamplingCall(x, offset, mask, groups=groups, points=points, window=window, logits=logits)


def _forward(x: Tensor, offset: Tensor, mask: Tensor, *parameters: Any, logits: bool = False) -> Tensor:
    call = _call(x, offset, mask, parameters, logits=logits)
    out = checked_output(x, offset, mask, *parameters)
    if call.empty:
        return out.zero_()
    call.forward(out)
    return out


def _backward(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, *rest: Any, logits: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    *parameters, wanted = rest
    call = _call(x, offset, mask, tuple(parameters), logits=logits)
    grad_x, grad_offset, grad_mask = gradients(grad, x, offset, mask, wanted)
    if call.empty:
        return grad_x.zero_(), grad_offset.zero_(), grad_mask.zero_()
    if wanted[1] or wanted[2]:
        call.grad_offset_mask(grad, grad_offset if wanted[1] else None, grad_mask if wanted[2] else None)
    if wanted[0]:
        call.grad_x(grad, grad_x)
    return grad_x, grad_offset, grad_mask


# --- Operations -------------------------------------------------------------------------------------------------


_INPUTS = (
    "Tensor x, Tensor offset, Tensor mask, int kernel_size, int stride, int pad, int dilation, int group, "
    "float offset_scale, bool remove_center"
)
for _name, _logits, _formula in (("dcnv3_cpu", False, windowed), ("dcnv3_cpu_logits", True, windowed_from_logits)):
    define(f"{_name}({_INPUTS}) -> Tensor", partial(_forward, logits=_logits), checked_output)
    define(
        f"{_name}_backward(Tensor grad, {_INPUTS}, bool[3] wanted) -> (Tensor, Tensor, Tensor)",
        partial(_backward, logits=_logits),
        checked_gradients,
    )
    differentiate(_name, tensors=3, formula=_formula)
