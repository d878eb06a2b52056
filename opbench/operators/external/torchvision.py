"""torchvision's deformable convolution v2, as DCNv2 and, between two transpositions, as DCNv3."""

from __future__ import annotations

import functools
import importlib.util

import torch
from torch import Tensor


def deform_conv2d(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *, stride: int, pad: int, dilation: int, group: int
) -> Tensor:
    """torchvision.ops.deform_conv2d; `group` follows from the offset's channels."""
    from torchvision.ops import deform_conv2d as operation

    out: Tensor = operation(x, offset, weight, stride=stride, padding=pad, dilation=dilation, mask=mask)
    return out


def dcnv3(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    kernel_size: int,
    stride: int,
    pad: int,
    dilation: int,
    group: int,
    offset_scale: float,
    remove_center: bool,
) -> Tensor:
    """x (N, H, W, C): torchvision.ops.deform_conv2d, deformable convolution v2 with unit weights for each channel.

    Its tap in row j and column i lies at (v*stride - pad + j*dilation + y, u*stride - pad + i*dilation + x), taps by
    rows, pairs (y, x), channels first. So an offset o of DCNv3, x outer, becomes half - i*d + (i*d - half + o) a.
    """
    N, _, _, C = x.shape
    _, Ho, Wo, _ = offset.shape
    half = (dilation * (kernel_size - 1)) >> 1
    # Counted, not copied from the host: a CUDA graph that is being captured forbids it.
    steps = torch.arange(kernel_size, dtype=offset.dtype, device=offset.device) * dilation
    grid = torch.cartesian_prod(steps, steps)
    if remove_center:
        grid = torch.cat((grid[: kernel_size**2 // 2], grid[kernel_size**2 // 2 + 1 :]))
    pairs = offset.reshape(N, Ho, Wo, group, -1, 2)
    moved = half - grid + (grid - half + pairs) * offset_scale
    weights = mask.reshape(N, Ho, Wo, group, -1, 1)
    if remove_center:
        moved, weights = (_with_middle(values, kernel_size**2 // 2) for values in (moved, weights))
    # Points x outer -> taps by rows, (x, y) -> (y, x), and channels first.
    moved = moved.unflatten(4, (kernel_size, kernel_size)).transpose(4, 5).flip(-1)
    weights = weights.unflatten(4, (kernel_size, kernel_size)).transpose(4, 5)
    # It floors whatever number it gets: NaN, infinite and far locations go to one harmless place outside.
    moved = torch.where(moved.abs() < 1e6, moved, 1e6)
    unit = torch.ones(C, 1, kernel_size, kernel_size, dtype=x.dtype, device=x.device)
    out = deform_conv2d(
        x.permute(0, 3, 1, 2).contiguous(),
        moved.flatten(3).permute(0, 3, 1, 2).contiguous(),
        weights.flatten(3).permute(0, 3, 1, 2).contiguous(),
        unit,
        stride=stride,
        pad=pad,
        dilation=dilation,
        group=group,
    )
    return out.permute(0, 2, 3, 1)


def _with_middle(values: Tensor, middle: int) -> Tensor:
    """(N, Ho, Wo, G, P, ...) -> P + 1 points, zeros for the middle one: what has mask 0 weighs nothing."""
    return torch.cat((values[..., :middle, :], torch.zeros_like(values[..., :1, :]), values[..., middle:, :]), -2)


@functools.cache
def missing() -> str | None:
    """Why torchvision's operator can't run here, or None: its compiled part must fit this torch."""
    if importlib.util.find_spec("torchvision") is None:
        return "torchvision is not installed (pip install torchvision)"
    try:
        ones = torch.ones(1, 1, 3, 3)
        out = deform_conv2d(ones, ones.new_zeros(1, 18, 3, 3), ones[:, :1].expand(1, 9, 3, 3), ones, stride=1, pad=1,
                          dilation=1, group=1)  # fmt: skip
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        return f"torchvision's deform_conv2d doesn't work with torch {torch.__version__}: {error}"
    return None if out[0, 0, 1, 1] == 9 else "torchvision's deform_conv2d returns wrong values"
