"""DCNv4's core on the CPU: DCNv3's kernels (`dcnv3`), which read and write the packed layout in place.

Axes: x (N, H, W, C), offset_mask (N, Ho, Wo, M) with M >= G*P*3: in each group P pairs (x, y) and then P masks. What
follows the last group is not read, and its gradient is 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from opbench.kernels.cpu.sampling_call import SamplingCall, Window
from opbench.kernels.dcnv4_shapes import check, checked_gradients, checked_output
from opbench.kernels.formulas import packed
from opbench.kernels.operation import define, differentiate, refuse_forward_mode


def dcnv4_cpu(
    x: Tensor,
    offset_mask: Tensor,
    *,
    kernel_size: int,
    stride: int = 1,
    pad: int,
    dilation: int = 1,
    group: int,
    offset_scale: float = 1.0,
    remove_center: bool = False,
) -> Tensor:
    """x (N, H, W, C), offset_mask (N, Ho, Wo, M) -> (N, Ho, Wo, C)."""
    refuse_forward_mode("dcnv4_cpu", x, offset_mask)
    out: Tensor = torch.ops.opbench.dcnv4_cpu(
        x, offset_mask, kernel_size, stride, pad, dilation, group, offset_scale, remove_center
    )
    return out


def _call(x: Tensor, offset_mask: Tensor, parameters: tuple[Any, ...]) -> SamplingCall:
    size, stride, pad, dilation, groups, scale, remove_center = parameters
    window = Window(size, stride, pad, dilation, scale, remove_center)
    points = check(x, offset_mask, parameters)
    return SamplingCall(x, offset_mask, None, groups=groups, points=points, window=window, packed=True)


def _forward(x: Tensor, offset_mask: Tensor, *parameters: Any) -> Tensor:
    call = _call(x, offset_mask, parameters)
    out = checked_output(x, offset_mask, *parameters)
    if call.empty:
        return out.zero_()
    call.forward(out)
    return out


def _backward(grad: Tensor, x: Tensor, offset_mask: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    grad_x, grad_packed = checked_gradients(grad, x, offset_mask, *rest)
    *parameters, wanted = rest
    call = _call(x, offset_mask, tuple(parameters))
    if call.empty:
        return grad_x.zero_(), grad_packed.zero_()
    if wanted[1]:
        grad_packed[..., 3 * call.groups * call.points :] = 0
        call.grad_offset_mask(grad, grad_packed, grad_packed)
    if wanted[0]:
        call.grad_x(grad, grad_x)
    return grad_x, grad_packed


_INPUTS = (
    "Tensor x, Tensor offset_mask, int kernel_size, int stride, int pad, int dilation, int group, "
    "float offset_scale, bool remove_center"
)
define(f"dcnv4_cpu({_INPUTS}) -> Tensor", _forward, checked_output)
define(f"dcnv4_cpu_backward(Tensor grad, {_INPUTS}, bool[2] wanted) -> (Tensor, Tensor)", _backward, checked_gradients)
differentiate("dcnv4_cpu", tensors=2, formula=packed)
