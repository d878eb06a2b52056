"""Dynamic snake convolution from its formula, in the dtype of its inputs: functions of image and parameters."""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.operators.common.block import normed_convolution
from opbench.operators.common.clamped.definition import clamped_definition
from opbench.operators.common.definitions import convolution
from opbench.schema import Tensors


def swung(offset: Tensor) -> Tensor:
    """offset (N, k, H, W) of neighbouring samples, k odd -> how far each sample lies off the straight line.

    The middle one stays. Each other one lies off its neighbour nearer the middle by its own offset: the sums from the
    middle outwards (equations 1 and 2 of the paper), by which a kernel stays in one piece.
    """
    middle = offset.shape[1] // 2
    at: dict[int, Tensor] = {middle: torch.zeros_like(offset[:, middle])}
    for step in range(1, middle + 1):
        at[middle + step] = at[middle + step - 1] + offset[:, middle + step]
        at[middle - step] = at[middle - step + 1] + offset[:, middle - step]
    return torch.stack([at[index] for index in range(len(at))], 1)


def branch_definition(
    tensors: Tensors, x: Tensor, prefix: str = "", *, morph: int, kernel_size: int, extend_scope: float = 1.0
) -> Tensor:
    """x (N, C, H, W) -> (N, O, H, W): one snake, along x with morph 0, along y with morph 1."""

    def named(name: str) -> Tensor:
        return tensors[prefix + name]

    k = kernel_size
    raw = convolution(x, named("offset_conv.weight"), named("offset_conv.bias"))
    bounded = torch.tanh(group_norm(raw, k, named("gn_offset.weight"), named("gn_offset.bias")))
    sideways = swung(bounded[:, :k] if morph == 0 else bounded[:, k:]) * extend_scope
    H, W = x.shape[2:]
    steps = (torch.arange(k, device=x.device) - k // 2).to(x.dtype).view(k, 1, 1)
    rows = torch.arange(H, device=x.device).to(x.dtype).view(H, 1)
    columns = torch.arange(W, device=x.device).to(x.dtype)
    straight = torch.zeros_like(sideways)
    if morph == 0:
        at = rows + sideways, columns + steps + straight
        weight = named("dsc_conv_x.weight").squeeze(3)
    else:
        at = rows + steps + straight, columns + sideways
        weight = named("dsc_conv_y.weight").squeeze(2)
    bias = named(f"dsc_conv_{'xy'[morph]}.bias").view(-1, 1, 1)
    out = clamped_definition(x, *at, weight) + bias
    return torch.relu(group_norm(out, out.shape[1] // 4, named("gn.weight"), named("gn.bias")))


def snake_definition(tensors: Tensors, training: bool, *, kernel_size: int) -> Tensor:
    """x (N, C, H, W) -> (N, O, H, W): a convolution, a snake along x and one along y, side by side, then a 1x1 one."""
    x, k = tensors["x"], kernel_size
    views = [normed_convolution(x, tensors, "conv_0", training)]
    views += [branch_definition(tensors, x, f"conv_{'xy'[m]}.", morph=m, kernel_size=k) for m in (0, 1)]
    return normed_convolution(torch.cat(views, 1), tensors, "conv_1x1", training)


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor) -> Tensor:
    """x (N, C, H, W), each image's groups of channels normalised by their own mean and biased variance."""
    apart = x.reshape(x.shape[0], groups, -1)
    centred = apart - apart.mean(2, keepdim=True)
    normal = centred / torch.sqrt((centred**2).mean(2, keepdim=True) + 1e-5)
    return normal.view(x.shape) * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)
