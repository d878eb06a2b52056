"""DCNv4's core on CUDA, in Triton: `dcnv4_triton`, `dcnv4_triton_logits` and their operations.

DCNv3's kernels (`dcnv3`, which says what holds of them), which read the packed layout in place and write its gradient:
no part of it is copied.

Axes: x (N, H, W, C), offset_mask (N, Ho, Wo, M) with M >= G*P*3: in each group P pairs (x, y) and then P masks, or for
`dcnv4_triton_logits` logits. What follows the last group is not read, and its gradient is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from opbench.kernels.dcnv4_shapes import check, checked_gradients, checked_output
from opbench.kernels.formulas import packed, packed_from_logits
from opbench.kernels.operation import define, differentiate, refuse_forward_mode
from opbench.kernels.triton.gathering import takes_atomics
from opbench.kernels.triton.launch import DEVICES
from opbench.kernels.triton.sampling_call import WindowCall


def dcnv4_triton(
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
    deterministic: bool | None = None,
) -> Tensor:
    """x (N, H, W, C), offset_mask (N, Ho, Wo, M) -> (N, Ho, Wo, C), with masks as they come.

    `deterministic` is about x's gradient: see `dcnv3`.
    """
    refuse_forward_mode("dcnv4_triton", x, offset_mask)
    out: Tensor = torch.ops.opbench.dcnv4_triton(
        x, offset_mask, kernel_size, stride, pad, dilation, group, offset_scale, remove_center, deterministic
    )
    return out


def dcnv4_triton_logits(
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
    deterministic: bool | None = None,
) -> Tensor:
    """The same with a softmax over each group's P masks, as the published operator's switch `softmax` has it."""
    refuse_forward_mode("dcnv4_triton_logits", x, offset_mask)
    out: Tensor = torch.ops.opbench.dcnv4_triton_logits(
        x, offset_mask, kernel_size, stride, pad, dilation, group, offset_scale, remove_center, deterministic
    )
    return out


# --- Operations -------------------------------------------------------------------------------------------------


def _parts(packed: Tensor, groups: int, points: int) -> tuple[Tensor, Tensor]:
    """Views of the offsets (N, Ho, Wo, G, 2P) and of the masks (N, Ho, Wo, G, P)."""
    apart = packed[..., : 3 * groups * points].unflatten(3, (groups, 3 * points))
    return apart[..., : 2 * points], apart[..., 2 * points :]


def _call(x: Tensor, offset_mask: Tensor, parameters: Sequence[Any], fused: bool) -> WindowCall:
    points = check(x, offset_mask, parameters)
    return WindowCall(x, *_parts(offset_mask, parameters[4], points), parameters, fused)


def _forward(x: Tensor, offset_mask: Tensor, *parameters: Any, fused: bool = False) -> Tensor:
    return _call(x, offset_mask, parameters[:-1], fused).output()


def _backward(grad: Tensor, x: Tensor, offset_mask: Tensor, *rest: Any, fused: bool = False) -> tuple[Tensor, Tensor]:
    *parameters, deterministic, wanted = rest
    call = _call(x, offset_mask, parameters, fused)
    grad_x, grad_packed = checked_gradients(grad, x, offset_mask, *parameters, wanted)
    to_x, to_packed = wanted
    parts: tuple[Tensor, Tensor] = (grad_packed, grad_packed)
    if to_packed:
        grad_packed[..., 3 * call.groups * call.points :] = 0
        parts = _parts(grad_packed, call.groups, call.points)
    atomics = to_x and takes_atomics("dcnv4_triton", deterministic)
    call.fill(grad, (grad_x, *parts), (to_x, to_packed, to_packed), atomics)
    return grad_x, grad_packed


def _out(x: Tensor, offset_mask: Tensor, *parameters: Any) -> Tensor:
    return checked_output(x, offset_mask, *parameters[:-1])


def _shapes(grad: Tensor, x: Tensor, offset_mask: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    *parameters, _, wanted = rest
    return checked_gradients(grad, x, offset_mask, *parameters, wanted)


_INPUTS = (
    "Tensor x, Tensor offset_mask, int kernel_size, int stride, int pad, int dilation, int group, "
    "float offset_scale, bool remove_center, bool? deterministic"
)
for _name, _fused in (("dcnv4_triton", False), ("dcnv4_triton_logits", True)):
    define(f"{_name}({_INPUTS}) -> Tensor", partial(_forward, fused=_fused), _out, devices=DEVICES)
    define(
        f"{_name}_backward(Tensor grad, {_INPUTS}, bool[2] wanted) -> (Tensor, Tensor)",
        partial(_backward, fused=_fused),
        _shapes,
        devices=DEVICES,
    )
    differentiate(_name, tensors=2, formula=packed_from_logits if _fused else packed)
