"""RFAConv from its formula, in the dtype of its tensors: what every implementation is held to."""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.operators.common.definitions import normalised, softmax, zero_extended
from opbench.schema import Tensors


def _windows(x: Tensor, k: int, stride: int) -> list[Tensor]:
    """For every tap of a k x k window around each output pixel, row by row: what it reads, zeros outside the image."""
    extended = zero_extended(x, k // 2)
    height, width = ((size - k) // stride + 1 for size in extended.shape[2:])
    return [
        extended[:, :, i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride]
        for i in range(k)
        for j in range(k)
    ]


def rfaconv_definition(x: Tensor, tensors: Tensors, training: bool, *, stride: int = 1, norm: bool = True) -> Tensor:
    """x (N, C, H, W) and the parameters by their state-dict names -> (N, O, Ho, Wo).

    With the windows x_t of the taps t = 1 ... k*k around an output pixel, all of one channel c:
    attention a_t = softmax over t of (w_t * mean over taps of x); feature f_t = relu(bn(sum over u of v_tu x_u));
    out = relu(bn(sum over c, t of W_ct a_t f_t + b)); the last norm and rectifier only with `norm`.
    """
    weight = tensors["conv.0.weight"]
    _, C, k, _ = weight.shape
    windows = _windows(x, k, stride)
    height, width = windows[0].shape[2:]
    pooled = sum(windows, x.new_zeros(())) / k**2
    attention = softmax(pooled.unsqueeze(2) * tensors["get_weight.1.weight"].view(C, k * k, 1, 1), 2)
    kernels = tensors["generate_feature.0.weight"].reshape(C, k * k, k * k)
    features = x.new_zeros(())
    for u, window in enumerate(windows):
        features = features + kernels[:, :, u, None, None] * window.unsqueeze(2)
    features = normalised(features.flatten(1, 2), tensors, "generate_feature.1", training)
    fields = torch.relu(features).unflatten(1, (C, k * k)) * attention
    out = tensors["conv.0.bias"].view(-1, 1, 1)
    for t in range(k * k):
        out = out + (weight.flatten(2)[:, :, t] @ fields[:, :, t].flatten(2)).unflatten(2, (height, width))
    return torch.relu(normalised(out, tensors, "conv.1", training)) if norm else out
