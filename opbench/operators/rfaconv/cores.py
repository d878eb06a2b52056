"""How RFAConv weighs its receptive fields and contracts them: one function and one entry of `CORES` each.

Every core takes (logits, features, weight, bias): logits and features (N, C*k*k, Ho, Wo), both channel-major, taps row
by row within a channel; weight (O, C, k, k), bias (O) -> (N, O, Ho, Wo). It computes, for each output pixel,
sum over c and taps of weight * softmax over the taps of a channel (logits) * features, plus bias.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from opbench.operators.common.choice import CoreTable
from opbench.schema import Implementation


def _weighted(logits: Tensor, features: Tensor, taps: int) -> Tensor:
    """(N, C, k*k, Ho, Wo): the features of each receptive field under their attention."""
    attention: Tensor = logits.unflatten(1, (-1, taps)).softmax(2)
    fields: Tensor = features.unflatten(1, (-1, taps))
    # Under autocast softmax returns float32.
    return fields * attention.to(fields.dtype)


def pointwise(logits: Tensor, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The receptive fields stay channels: the contraction is a 1x1 convolution, and nothing is rearranged."""
    taps = weight.shape[2] * weight.shape[3]
    return F.conv2d(_weighted(logits, features, taps).flatten(1, 2), weight.flatten(1)[:, :, None, None], bias)


def rearranged(logits: Tensor, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As published: receptive fields laid out side by side, (N, C, k*Ho, k*Wo), then a convolution of stride k."""
    k = weight.shape[2]
    fields = _weighted(logits, features, k * k).unflatten(2, (k, k))
    # n c i j h w -> n c h i w j
    image = fields.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
    return F.conv2d(image, weight, bias, stride=k)


CORES = CoreTable(
    Implementation("pointwise", pointwise, note="the contraction as a 1x1 convolution: no receptive field is moved"),
    Implementation("rearranged", rearranged, note="as published: laid out k times as high and wide, then stride k"),
    fallback="pointwise",
)
