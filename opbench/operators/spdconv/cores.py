"""Ways to compute SPDConv's convolution of the rearranged image: core(x, weight) with weight (O, 4C, k, k), k odd."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.operators.common.choice import CoreTable
from opbench.schema import Implementation


def slices(x: Tensor, weight: Tensor) -> Tensor:
    """x (N, C, H, W) -> (N, O, H/2, W/2): the four slices are copied side by side, then convolved, as published."""
    rearranged = torch.cat((x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]), 1)
    return F.conv2d(rearranged, weight, padding=weight.shape[-1] // 2)


def strided(x: Tensor, weight: Tensor) -> Tensor:
    """x (N, C, H, W) -> (N, O, H/2, W/2): one convolution of 2k x 2k with stride 2, its weights rearranged instead.

    Tap (i, j) of slice (a, b) is tap (2i + a, 2j + b) of the large window, so the image is never copied.
    """
    outputs, channels, k, _ = (int(size) for size in weight.shape)
    parts = weight.reshape(outputs, 2, 2, channels // 4, k, k)
    window = parts.permute(0, 3, 4, 2, 5, 1).reshape(outputs, channels // 4, 2 * k, 2 * k)
    return F.conv2d(x, window, stride=2, padding=k - 1)


CORES = CoreTable(
    Implementation("slices", slices, note="four slices copied side by side, then a convolution, as published"),
    Implementation("strided", strided, note="one convolution of 2k x 2k and stride 2: its weights are rearranged"),
    fallback="strided",
)
