"""`dcnv4`: the checked entry to every core of DCNv4."""

from __future__ import annotations

from torch import Tensor

from opbench.kernels.dcnv4_packed import width
from opbench.operators.common.choice import Core
from opbench.operators.dcnv3.settings import DCNv3Settings
from opbench.operators.dcnv4.cores import CORES


def dcnv4(
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
    implementation: str | Core = "auto",
) -> Tensor:
    """x (N, H, W, C), offset_mask (N, Ho, Wo, M) -> (N, Ho, Wo, C): DCNv4's sampling, without its projections.

    The sampling is DCNv3's (`opbench.operators.dcnv3.dcnv3`), with masks as they come: any number, no softmax. Of the
    M = 8 * ceil(3GP / 8) numbers of an output pixel each group has 3P: a pair (x, y) for each of its P points, then
    its P masks; what follows the last group is padding and gets no gradient.

    Both tensors share dtype (float64, float32, bfloat16 or float16) and device. Raises TypeError and ValueError before
    any work. Source: DCNv4, arXiv 2401.06197, and its published operator, which needs CUDA and channels a group that
    are a multiple of 16.
    """
    settings = DCNv3Settings(
        kernel_size=kernel_size,
        stride=stride,
        pad=pad,
        dilation=dilation,
        group=group,
        offset_scale=offset_scale,
        remove_center=remove_center,
    )
    settings.check()
    if x.ndim != 4 or x.shape[-1] % group:
        raise ValueError(f"x: expected (N, H, W, C) with C divisible by {group} groups, got shape {tuple(x.shape)}")
    if offset_mask.dtype != x.dtype:
        raise TypeError(f"offset_mask: expected x's dtype {x.dtype}, got {offset_mask.dtype}; convert it with .to(x)")
    batch, height, width_in, _ = x.shape
    numbers = width(group, settings.points)
    expected = (batch, settings.output_size(height), settings.output_size(width_in), numbers)
    if tuple(offset_mask.shape) != expected:
        raise ValueError(
            f"offset_mask: expected shape {expected} for x {tuple(x.shape)}, got {tuple(offset_mask.shape)}: for each "
            f"of {group} groups {2 * settings.points} offsets and then {settings.points} masks, zeros up to {numbers}"
        )
    core = CORES.choose(implementation, x.device.type)
    return core(x, offset_mask, **settings.options)
