"""DCNv4's sampling and its module from their equations: functions of the input and the named parameters.

Written out in the dtype of their inputs and differentiable; they share nothing with a core.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from opbench.operators.common.definitions import depthwise
from opbench.operators.dcnv3.definition import dcnv3_definition
from opbench.schema import Tensors


def dcnv4_definition(
    x: Tensor,
    offset_mask: Tensor,
    *,
    kernel_size: int,
    stride: int,
    pad: int,
    dilation: int,
    group: int,
    offset_scale: float = 1.0,
    remove_center: bool = False,
) -> Tensor:
    """x (N, H, W, C), offset_mask (N, Ho, Wo, M) -> (N, Ho, Wo, C): DCNv3's sampling with masks as they come.

    Group g's numbers begin at 3Pg: a pair (x, y) for each of its P points, then P masks. What follows the last group
    is padding and means nothing.
    """
    points = kernel_size * kernel_size - int(remove_center)
    starts = [3 * points * g for g in range(group)]
    offset = torch.cat([offset_mask[..., start : start + 2 * points] for start in starts], -1)
    mask = torch.cat([offset_mask[..., start + 2 * points : start + 3 * points] for start in starts], -1)
    return dcnv3_definition(
        x, offset, mask, kernel_size=kernel_size, stride=stride, pad=pad, dilation=dilation, group=group,
        offset_scale=offset_scale, remove_center=remove_center,
    )  # fmt: skip


def dcnv4_module_definition(
    x: Tensor,
    tensors: Tensors,
    *,
    group: int,
    stride: int = 1,
    dw_kernel_size: int | None = None,
    center_feature_scale: bool = False,
    without_pointwise: bool = False,
    **window: Any,
) -> Tensor:
    """x (N, H, W, C) -> (N, Ho, Wo, C). `window` is the rest of the core's: kernel_size, pad, dilation, ..."""

    def linear(value: Tensor, name: str) -> Tensor:
        out = value @ tensors[f"{name}.weight"].T
        return out + tensors[f"{name}.bias"] if f"{name}.bias" in tensors else out

    value = x if without_pointwise else linear(x, "value_proj")
    if dw_kernel_size is None:
        features = x[:, ::stride, ::stride]
    else:
        weight, bias = tensors["offset_mask_dw.weight"], tensors["offset_mask_dw.bias"]
        features = depthwise(x.permute(0, 3, 1, 2), weight, bias, stride, (dw_kernel_size - 1) // 2)
        features = features.permute(0, 2, 3, 1)
    out = dcnv4_definition(value, linear(features, "offset_mask"), group=group, stride=stride, **window)
    if center_feature_scale:
        weight, bias = (tensors[f"center_feature_scale_proj_{part}"] for part in ("weight", "bias"))
        scale = torch.sigmoid(out @ weight.T + bias).repeat_interleave(x.shape[-1] // group, -1)
        out = out * (1 - scale) + value * scale
    return out if without_pointwise else linear(out, "output_proj")
