"""ODConv from its formula, in the dtype of its tensors: what every implementation is held to."""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.operators.common.definitions import normalised, softmax, zero_extended
from opbench.schema import Tensors


def odconv_definition(
    x: Tensor,
    tensors: Tensors,
    training: bool,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """x (N, C, H, W) and the parameters by their state-dict names -> (N, O, Ho, Wo).

    From z = relu(bn(fc(mean of an image))): channel attention a (C), filter attention f (O) and spatial attention s
    (taps) are sigmoids of linear layers of z, kernel attention q (K) a softmax. Then, image by image,
    out_o = f_o * sum over c, t of (sum over j of q_j W_jot) s_t a_c x_c at tap t. A branch that the module doesn't have
    is 1. One image in training is normalised by the running statistics: a single value has no deviation.
    """

    def branch(name: str) -> Tensor:
        matrix = tensors[f"attention.{name}.weight"].flatten(1)
        return z @ matrix.T + tensors[f"attention.{name}.bias"]

    means = x.mean((2, 3)) @ tensors["attention.fc.weight"].flatten(1).T
    several = training and x.shape[0] > 1
    z = torch.relu(normalised(means[:, :, None, None], tensors, "attention.bn", several).flatten(1))
    weight = tensors["weight"]
    count, outputs, inputs, k, _ = weight.shape
    x = x * torch.sigmoid(branch("channel_fc"))[:, :, None, None]
    kernel = softmax(branch("kernel_fc"), 1) if count > 1 else x.new_ones(x.shape[0], 1)
    own = x.new_zeros(())
    for j in range(count):
        own = own + kernel[:, j, None, None, None, None] * weight[j]
    if k > 1:
        own = own * torch.sigmoid(branch("spatial_fc")).reshape(-1, 1, 1, k, k)
    extended = zero_extended(x, padding)
    height, width = ((size - dilation * (k - 1) - 1) // stride + 1 for size in extended.shape[2:])
    out = x.new_zeros(())
    for i in range(k):
        for j in range(k):
            top, left = i * dilation, j * dilation
            rows = slice(top, top + (height - 1) * stride + 1, stride)
            pixels = extended[:, :, rows, left : left + (width - 1) * stride + 1 : stride]
            tap = own[..., i, j].reshape(-1, groups, outputs // groups, inputs)
            out = out + tap @ pixels.reshape(pixels.shape[0], groups, inputs, height * width)
    out = out.reshape(-1, outputs, height, width)
    if "attention.filter_fc.weight" not in tensors:
        return out
    return out * torch.sigmoid(branch("filter_fc"))[:, :, None, None]
