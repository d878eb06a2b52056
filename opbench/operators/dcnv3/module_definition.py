"""DCNv3's module and the YOLO block around it, from their equations: functions of the input and the named parameters.

Everything is written out (convolution by taps, normalisation, GELU, softmax), so that nothing of what the modules
call judges itself. All of it works in the dtype of its inputs and is differentiable.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from opbench.operators.common.block import normed, normed_convolution
from opbench.operators.common.definitions import depthwise, softmax
from opbench.operators.dcnv3.definition import dcnv3_definition
from opbench.schema import Tensors


def dcnv3_module_definition(
    x: Tensor,
    tensors: Tensors,
    prefix: str = "",
    *,
    kernel_size: int = 3,
    dw_kernel_size: int | None = None,
    stride: int = 1,
    pad: int = 1,
    dilation: int = 1,
    group: int,
    offset_scale: float = 1.0,
    center_feature_scale: bool = False,
    remove_center: bool = False,
) -> Tensor:
    """x (N, H, W, C) -> (N, Ho, Wo, C) with the parameters `tensors[prefix + name]`; LayerNorm and GELU."""

    def named(name: str) -> Tensor:
        return tensors[prefix + name]

    def linear(value: Tensor, name: str) -> Tensor:
        return value @ named(f"{name}.weight").T + named(f"{name}.bias")

    window = dilation * (kernel_size - 1) + 1
    dw_pad = pad + ((dw_kernel_size or kernel_size) - window) // 2
    local = depthwise(x.permute(0, 3, 1, 2), named("dw_conv.0.weight"), named("dw_conv.0.bias"), stride, dw_pad)
    features = gelu(layer_norm(local.permute(0, 2, 3, 1), named("dw_conv.1.1.weight"), named("dw_conv.1.1.bias"), 1e-6))

    projected = linear(x, "input_proj")
    mask = softmax(linear(features, "mask").unflatten(-1, (group, -1)), -1).flatten(-2)
    out = dcnv3_definition(
        projected,
        linear(features, "offset"),
        mask,
        kernel_size=kernel_size,
        stride=stride,
        pad=pad,
        dilation=dilation,
        group=group,
        offset_scale=offset_scale,
        remove_center=remove_center,
    )
    if center_feature_scale:
        scale = torch.sigmoid(
            features @ named("center_feature_scale_proj_weight").T + named("center_feature_scale_proj_bias")
        )
        scale = scale.repeat_interleave(x.shape[-1] // group, -1)
        out = out * (1 - scale) + projected * scale
    return linear(out, "output_proj")


def yolo_block_definition(
    x: Tensor, tensors: Tensors, training: bool, *, kernel_size: int = 3, group: int, stride: int = 1
) -> Tensor:
    """x (N, C, H, W) -> (N, O, Ho, Wo): 1x1 convolution, batch norm, SiLU; DCNv3; batch norm, SiLU."""
    hidden = normed_convolution(x, tensors, "conv", training)
    out = dcnv3_module_definition(
        hidden.permute(0, 2, 3, 1),
        tensors,
        "dcnv3.",
        kernel_size=kernel_size,
        stride=stride,
        pad=(kernel_size - 1) // 2,
        group=group,
    )
    return normed(out.permute(0, 3, 1, 2), tensors, "bn", training)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """x (..., C) normalised over its last axis by mean and biased variance."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + epsilon) * weight + bias


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution function."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
