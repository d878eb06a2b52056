"""DCNv3's core on CUDA, in Triton: `dcnv3_triton`, `dcnv3_triton_logits`, and their operations.

Axes: x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask and logits (N, Ho, Wo, G*P), out (N, Ho, Wo, C). float64,
float32, and bfloat16 and float16 with locations, weights and sums in float32. Inputs are read in place whatever their
strides; results are contiguous.

A sample that isn't strictly inside (-1, W) x (-1, H), or isn't a number, contributes nothing and gets no gradient;
nothing outside x is read. `dcnv3_triton_logits` applies the softmax over the P points of each group in the kernels.

The gradients of offset and mask agree bit for bit between runs. That of x is added up by float32 atomics (float64 for
float64), whose order differs from run to run, in a float32 copy of x. With `deterministic=True` it is gathered
instead: samples are sorted by the cell they fall into and every pixel sums its own in a fixed order, at the price of
the sort and of some 50 bytes a sample. `deterministic=None` does so where `torch.use_deterministic_algorithms(True)`
is on; with `warn_only=True` the atomics stay, with a warning.

What should bound each kernel, from their loads (not measured on a GPU):
- forward: L1, four corners of 16 bytes a thread and point, of which memory delivers each about once at small offset
  spreads; at large ones L2. With 16 channels a group, locating samples costs as many instructions as sampling.
- backward: atomics, four a point and channel, in L2; then as forward, with three reductions a point.
- deterministic backward: the sort, several passes over 8-byte keys.

Longer than 300 lines because a launch and the operation that torch sees of it take the same arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from opbench.kernels.dcnv3_shapes import check, checked_gradients, checked_output, gradients
from opbench.kernels.formulas import windowed, windowed_from_logits
from opbench.kernels.operation import define, differentiate, refuse_forward_mode
from opbench.kernels.triton.gathering import takes_atomics
from opbench.kernels.triton.launch import DEVICES
from opbench.kernels.triton.sampling_call import WindowCall


def dcnv3_triton(
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
    deterministic: bool | None = None,
) -> Tensor:
    """x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P) -> (N, Ho, Wo, C).

    `deterministic` is about x's gradient: see the module.
    """
    refuse_forward_mode("dcnv3_triton", x, offset, mask)
    out: Tensor = torch.ops.opbench.dcnv3_triton(
        x, offset, mask, kernel_size, stride, pad, dilation, group, offset_scale, remove_center, deterministic
    )
    return out


def dcnv3_triton_logits(
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
    deterministic: bool | None = None,
) -> Tensor:
    """The same with mask = softmax of logits (N, Ho, Wo, G*P) over each group's P points, which is never written."""
    refuse_forward_mode("dcnv3_triton_logits", x, offset, logits)
    out: Tensor = torch.ops.opbench.dcnv3_triton_logits(
        x, offset, logits, kernel_size, stride, pad, dilation, group, offset_scale, remove_center, deterministic
    )
    return out


# --- Operations -------------------------------------------------------------------------------------------------


def _apart(t: Tensor, groups: int) -> Tensor:
    """(N, Ho, Wo, G*P*...) as (N, Ho, Wo, G, P*...)."""
    return t.unflatten(3, (groups, t.shape[3] // groups)) if t.numel() else t.new_empty((*t.shape[:3], groups, 0))


def _call(x: Tensor, offset: Tensor, mask: Tensor, parameters: Sequence[Any], fused: bool) -> WindowCall:
    check(x, offset, mask, *parameters)
    groups = parameters[4]
    return WindowCall(x, _apart(offset, groups), _apart(mask, groups), parameters, fused)


def _forward(x: Tensor, offset: Tensor, mask: Tensor, *parameters: Any, fused: bool = False) -> Tensor:
    return _call(x, offset, mask, parameters[:-1], fused).output()


def _backward(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, *rest: Any, fused: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    *parameters, deterministic, wanted = rest
    call = _call(x, offset, mask, parameters, fused)
    made = gradients(grad, x, offset, mask, wanted)
    parts = (_apart(t, call.groups) if t.dim() == 4 else t for t in made[1:])
    atomics = wanted[0] and takes_atomics("dcnv3_triton", deterministic)
    call.fill(grad, (made[0], *parts), wanted, atomics)
    return made


def _out(x: Tensor, offset: Tensor, mask: Tensor, *parameters: Any) -> Tensor:
    return checked_output(x, offset, mask, *parameters[:-1])


def _shapes(grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    *parameters, _, wanted = rest
    return checked_gradients(grad, x, offset, mask, *parameters, wanted)


_PARAMETERS = (
    "int kernel_size, int stride, int pad, int dilation, int group, float offset_scale, bool remove_center, "
    "bool? deterministic"
)
for _name, _mask, _fused in (("dcnv3_triton", "mask", False), ("dcnv3_triton_logits", "logits", True)):
    _inputs = f"Tensor x, Tensor offset, Tensor {_mask}, {_PARAMETERS}"
    define(f"{_name}({_inputs}) -> Tensor", partial(_forward, fused=_fused), _out, devices=DEVICES)
    define(
        f"{_name}_backward(Tensor grad, {_inputs}, bool[3] wanted) -> (Tensor, Tensor, Tensor)",
        partial(_backward, fused=_fused),
        _shapes,
        devices=DEVICES,
    )
    differentiate(_name, tensors=3, formula=windowed_from_logits if _fused else windowed)
