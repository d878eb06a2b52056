"""DCNv4's packed layout: for each group [2P offsets | P masks], the groups one after another, then zeros up to 8k."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def width(group: int, points: int) -> int:
    """M, the numbers of an output pixel: 3GP rounded up to a multiple of 8.

    >>> width(4, 9), width(1, 9)
    (112, 32)
    """
    return -(-3 * group * points // 8) * 8


def unpack(offset_mask: Tensor, group: int, points: int) -> tuple[Tensor, Tensor]:
    """offset_mask (N, H, W, M) -> offset (N, H, W, G*P*2), mask (N, H, W, G*P); the padding's gradient is 0."""
    kept = offset_mask[..., : 3 * group * points].unflatten(-1, (group, 3 * points))
    return kept[..., : 2 * points].flatten(-2), kept[..., 2 * points :].flatten(-2)


def pack(offset: Tensor, mask: Tensor, group: int) -> Tensor:
    """offset (N, H, W, G*P*2), mask (N, H, W, G*P) -> (N, H, W, M), with zeros for the padding."""
    packed = torch.cat([part.unflatten(-1, (group, -1)) for part in (offset, mask)], -1).flatten(-2)
    return F.pad(packed, (0, -packed.shape[-1] % 8))
