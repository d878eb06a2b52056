"""The formulas that the operators' definitions are composed of, each written out from its equation.

A definition judges what torch's own kernels compute, so nothing here calls `torch.nn.functional`'s convolution,
normalisation, interpolation or pixel shuffle. All of it works in the dtype of its inputs and is differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.schema import Tensors


def zero_extended(x: Tensor, pad: int) -> Tensor:
    """`x` (N, C, H, W) with `pad` rows and columns of zeros on every side."""
    N, C, H, W = x.shape
    rows = x.new_zeros(N, C, pad, W)
    x = torch.cat([rows, x, rows], dim=2)
    columns = x.new_zeros(N, C, H + 2 * pad, pad)
    return torch.cat([columns, x, columns], dim=3)


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, pad: int | None = None
) -> Tensor:
    """`x` (N, C, H, W), weight (O, C, k, k) -> (N, O, Ho, Wo): zeros outside the image, k//2 of them unless `pad` says.

    out[:, :, h, w] = sum over taps (i, j) of weight[:, :, i, j] @ x[:, :, stride*h + i - pad, stride*w + j - pad].
    Each tap multiplies the whole extended image before its shift is cut out: all taps then share one stored factor,
    which keeps the backward pass of a large image within memory.
    """
    O, _, k, _ = weight.shape  # noqa: E741 - the letter of the formula
    extended = zero_extended(x, k // 2 if pad is None else pad)
    N, _, *sizes = extended.shape
    height, width = ((size - k) // stride + 1 for size in sizes)
    columns = extended.flatten(2)
    out = x.new_zeros(N, O, height, width) if bias is None else bias.view(1, O, 1, 1).expand(N, O, height, width)
    for i in range(k):
        for j in range(k):
            product = (weight[:, :, i, j] @ columns).unflatten(2, sizes)
            rows = slice(i, i + (height - 1) * stride + 1, stride)
            out = out + product[:, :, rows, j : j + (width - 1) * stride + 1 : stride]
    return out


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, pad: int = 1) -> Tensor:
    """x (N, C, H, W), weight (C, 1, k, k) -> (N, C, Ho, Wo): every channel convolved with its own kernel."""
    k = weight.shape[-1]
    extended = zero_extended(x, pad)
    height, width = ((size - k) // stride + 1 for size in extended.shape[2:])
    total = x.new_zeros(()) if bias is None else bias.view(-1, 1, 1)
    for i in range(k):
        for j in range(k):
            rows = slice(i, i + (height - 1) * stride + 1, stride)
            columns = slice(j, j + (width - 1) * stride + 1, stride)
            total = total + weight[:, 0, i, j].view(-1, 1, 1) * extended[:, :, rows, columns]
    return total


def pixel_shuffle(x: Tensor, s: int) -> Tensor:
    """`x` (N, C*s*s, H, W) -> (N, C, s*H, s*W): out[n, c, s*h + a, s*w + b] = x[n, (c*s + a)*s + b, h, w]."""
    N, channels, H, W = x.shape
    C = channels // (s * s)
    return x.reshape(N, C, s, s, H, W).permute(0, 1, 4, 2, 5, 3).reshape(N, C, s * H, s * W)


def softmax(x: Tensor, dim: int) -> Tensor:
    """exp(x) / sum exp(x) along `dim`, shifted by the maximum, which cancels in value and in gradient."""
    shifted = torch.exp(x - x.detach().amax(dim, keepdim=True))
    return shifted / shifted.sum(dim, keepdim=True)


def silu(x: Tensor) -> Tensor:
    """The sigmoid-weighted linear unit, x * sigmoid(x)."""
    return x * torch.sigmoid(x)


def batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *, training: bool, epsilon: float
) -> Tensor:
    """`x` (N, C, H, W) normalised per channel: by `mean` and `variance`, or in training by the batch's own (biased)."""
    if training:
        mean = x.mean((0, 2, 3))
        variance = ((x - mean.view(1, -1, 1, 1)) ** 2).mean((0, 2, 3))
    scale = (weight / torch.sqrt(variance + epsilon)).view(1, -1, 1, 1)
    return (x - mean.view(1, -1, 1, 1)) * scale + bias.view(1, -1, 1, 1)


def normalised(x: Tensor, tensors: Tensors, name: str, training: bool) -> Tensor:
    """`x` (N, C, H, W) under the batch norm whose parameters stand under `name`, at torch's epsilon."""
    parts = (tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
    return batch_norm(x, *parts, training=training, epsilon=1e-5)
