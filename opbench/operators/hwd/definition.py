"""Haar wavelet downsampling from its equations, in the dtype of its inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.operators.common.definitions import convolution, normalised
from opbench.schema import Tensors


def haar(x: Tensor, scale: Tensor) -> Tensor:
    """x (N, C, H, W) -> (N, 4C, ceil(H/2), ceil(W/2)): of every 2 x 2 block its sum and its three differences.

    With a, b over c, d the pixels of a block, zeros where an odd side ends, channel i*C + channel is scale times
    a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d for i = 0, 1, 2, 3.
    """
    N, C, H, W = x.shape
    whole = torch.cat((x, x.new_zeros(N, C, H % 2, W)), 2)
    whole = torch.cat((whole, x.new_zeros(N, C, whole.shape[2], W % 2)), 3)
    blocks = whole.reshape(N, C, whole.shape[2] // 2, 2, whole.shape[3] // 2, 2)
    rows = blocks[:, :, :, 0] + blocks[:, :, :, 1], blocks[:, :, :, 0] - blocks[:, :, :, 1]
    sums = [half[..., 0] + half[..., 1] for half in rows]
    differences = [half[..., 0] - half[..., 1] for half in rows]
    return torch.cat((*sums, *differences), 1) * scale


def hwd_definition(tensors: Tensors, training: bool, *, block: bool) -> Tensor:
    """x (N, C, H, W) -> (N, O, ceil(H/2), ceil(W/2)): the transform, a convolution; as a `block` batch norm and ReLU.

    The filters are the transform's constants, sqrt(1/2) in the dtype that they are held in.
    """
    scale = tensors["wt.h0_col"].flatten()[0] * tensors["wt.h0_row"].flatten()[0]
    bands = haar(tensors["x"], scale)
    if not block:
        return convolution(bands, tensors["conv.weight"])
    out = convolution(bands, tensors["conv_bn_relu.0.weight"], tensors["conv_bn_relu.0.bias"])
    return torch.relu(normalised(out, tensors, "conv_bn_relu.1", training))
