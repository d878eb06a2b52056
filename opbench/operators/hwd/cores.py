"""Ways to compute the transform and its convolution: core(x, weight, scale), weight (O, 4C, k, k) with k odd.

x (N, C, H, W), even sizes -> (N, O, H/2, W/2). Of each 2 x 2 block, a, b over c, d, the convolution reads `scale`
times a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d, each of all channels before the next.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.operators.common.choice import CoreTable
from opbench.schema import Implementation


def bands(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """The four bands are written side by side, then convolved, as published."""
    upper, lower = x[..., ::2, :], x[..., 1::2, :]
    rows = upper + lower, upper - lower
    sums = [half[..., ::2] + half[..., 1::2] for half in rows]
    differences = [half[..., ::2] - half[..., 1::2] for half in rows]
    return F.conv2d(torch.cat((*sums, *differences), 1) * scale, weight, padding=weight.shape[-1] // 2)


def folded(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """One convolution of 2k x 2k with stride 2: the transform is linear, so it is applied to the weights.

    Tap (2i + a, 2j + b) of the window weighs pixel (a, b) of the block that tap (i, j) reads. Nothing of the image is
    copied. Narrow weights are transformed in float32 and rounded once.
    """
    outputs, channels, k, _ = (int(size) for size in weight.shape)
    wide = torch.promote_types(weight.dtype, torch.float32)
    parts = weight.to(wide).reshape(outputs, 4, channels // 4, k, k) * scale.to(wide)
    mean, down, across, both = parts.unbind(1)
    sums, differences = (mean + down, mean - down), (across + both, across - both)
    taps = [one for s, d in zip(sums, differences, strict=True) for one in (s + d, s - d)]
    window = torch.stack(taps, -1).unflatten(-1, (2, 2))  # (O, C, k, k, a, b)
    window = window.permute(0, 1, 2, 4, 3, 5).reshape(outputs, channels // 4, 2 * k, 2 * k)
    return F.conv2d(x, window.to(weight.dtype), stride=2, padding=k - 1)


CORES = CoreTable(
    Implementation("bands", bands, note="the four bands written side by side, then a convolution, as published"),
    Implementation("folded", folded, note="one convolution of 2k x 2k and stride 2: its weights are transformed"),
    fallback="folded",
    export="bands",
)
