"""How a partial convolution leaves most channels as they are: one function and one entry of `CORES` each.

Every core takes (x, weight): x (N, C, H, W), weight (P, P, 3, 3), P <= C -> (N, C, H, W) in memory of its own: the
first P channels convolved (stride 1, padding 1), the others copied.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.operators.common.choice import CoreTable
from opbench.schema import Implementation


def split_cat(x: Tensor, weight: Tensor) -> Tensor:
    """Both parts put together again."""
    convolved = F.conv2d(x[:, : weight.shape[0]], weight, padding=1)
    # Under autocast the convolution returns a half type, and the others stay.
    return torch.cat((convolved, x[:, weight.shape[0] :].to(convolved.dtype)), 1)


def slicing(x: Tensor, weight: Tensor) -> Tensor:
    """A copy of x whose first channels are written over. The published code uses its like in inference only."""
    channels = weight.shape[0]
    convolved = F.conv2d(x[:, :channels], weight, padding=1)
    out = x.to(convolved.dtype, copy=True)
    out[:, :channels] = convolved
    return out


CORES = CoreTable(
    Implementation("split_cat", split_cat, note="the published code's way in training: convolved, then concatenated"),
    Implementation("slicing", slicing, note="the published code's way in inference: a copy, partly written over"),
    fallback="split_cat",
)
