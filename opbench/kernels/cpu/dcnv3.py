"""DCNv3's core on the CPU: `dcnv3_cpu`, and its operations in torch's dispatcher.

Axes: x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P), out (N, Ho, Wo, C). float64, float32, and
bfloat16 and float16 with locations, weights and sums in float32. Inputs are read in place where their last axis is
dense, and copied first where it isn't; results are contiguous.

A sample that isn't strictly inside (-1, W) x (-1, H), or isn't a number, contributes nothing and gets no gradient;
nothing outside x is read. Two runs agree bit for bit, whatever the number of threads (`sampling_call`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from opbench.kernels.cpu.sampling_call import SamplingCall, Window
from opbench.kernels.dcnv3_shapes import check, checked_gradients, checked_output, gradients
from opbench.kernels.formulas import windowed
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


def _call(x: Tensor, offset: Tensor, mask: Tensor, parameters: tuple[Any, ...]) -> SamplingCall:
    points, _, _ = check(x, offset, mask, *parameters)
    size, stride, pad, dilation, groups, scale, remove_center = parameters
    window = Window(size, stride, pad, dilation, scale, remove_center)
    return SamplingCall(x, offset, mask, groups=groups, points=points, window=window)


def _forward(x: Tensor, offset: Tensor, mask: Tensor, *parameters: Any) -> Tensor:
    call = _call(x, offset, mask, parameters)
    out = checked_output(x, offset, mask, *parameters)
    if call.empty:
        return out.zero_()
    call.forward(out)
    return out


def _backward(grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    *parameters, wanted = rest
    call = _call(x, offset, mask, tuple(parameters))
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
define(f"dcnv3_cpu({_INPUTS}) -> Tensor", _forward, checked_output)
define(
    f"dcnv3_cpu_backward(Tensor grad, {_INPUTS}, bool[3] wanted) -> (Tensor, Tensor, Tensor)",
    _backward,
    checked_gradients,
)
differentiate("dcnv3_cpu", tensors=3, formula=windowed)
