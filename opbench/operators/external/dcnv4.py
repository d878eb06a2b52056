"""DCNv4's compiled extension."""

from __future__ import annotations

import importlib

import torch
import torch.nn.functional as F
from torch import Tensor


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
    """x (N, H, W, C): DCNv4's operation, which is DCNv3's with the mask taken as it comes. CUDA.

    Offsets and masks of a group stand together, [2P offsets | P masks], all groups padded to a multiple of 8.
    """
    parts = (values.unflatten(-1, (group, -1)) for values in (offset, mask))
    packed = torch.cat(tuple(parts), -1).flatten(-2)
    packed = F.pad(packed, (0, -packed.shape[-1] % 8))
    return dcnv4(
        x, packed, kernel_size=kernel_size, stride=stride, pad=pad, dilation=dilation, group=group,
        offset_scale=offset_scale, remove_center=remove_center,
    )  # fmt: skip


def dcnv4(
    x: Tensor,
    offset_mask: Tensor,
    *,
    kernel_size: int,
    stride: int,
    pad: int,
    dilation: int,
    group: int,
    offset_scale: float,
    remove_center: bool,
) -> Tensor:
    """x (N, H, W, C), offset_mask (N, Ho, Wo, M): DCNv4's operation in its own layout. CUDA."""
    channels = x.shape[-1] // group
    if channels % 16:
        raise ValueError(f"group: DCNv4 works on multiples of 16 channels a group, got {channels}; use fewer groups")
    function = importlib.import_module("DCNv4.functions").DCNv4Function
    both = (kernel_size, kernel_size, stride, stride, pad, pad, dilation, dilation)
    images_at_once = max(1, x.shape[0])
    arguments = (*both, group, channels, float(offset_scale), images_at_once, int(remove_center))
    out: Tensor = function.apply(x.contiguous(), offset_mask.contiguous(), *arguments)
    return out.reshape(*offset_mask.shape[:3], x.shape[-1])
