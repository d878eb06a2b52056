"""Bilinear sampling as the definitions of deformable operators read it, in the dtype of its inputs.

Gradients come from autograd: at a location with a whole coordinate, where bilinear sampling has a kink, they are those
of the cell to the right of and below it (floor).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Elements of its inputs from which a term of the sum is computed again in backward rather than kept.
RECOMPUTED = 1 << 18


def as_rows(x: Tensor, group: int) -> Tensor:
    """x (N, H, W, C) -> one row of C/G channels a pixel and group, and a last row of zeros: everything outside."""
    rows = x.reshape(-1, x.shape[-1] // group)
    return torch.cat((rows, torch.zeros(1, rows.shape[1], dtype=x.dtype, device=x.device)))


def bilinear(rows: Tensor, height: int, width: int, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """rows as above; x, y, weight (N, Ho, Wo, G) or (N, Ho, Wo, G, P) -> (N, Ho, Wo, G, C/G).

    Each weight times the image at its (x, y), summed over the P points.
    Zero unless -1 < x < width and -1 < y < height, whatever the weight is.
    """
    batch, _, _, group, *points = x.shape
    counts = (x > -1) & (x < width) & (y > -1) & (y < height)
    # What doesn't count is replaced before anything is computed from it: a NaN times zero would stay NaN. Up to a pixel
    # beyond the border all corners lie outside, which is the same zero without a jump in how it comes about.
    near = (x > -2) & (x < width + 1) & (y > -2) & (y < height + 1)
    x, y = torch.where(near, x, 0.5), torch.where(near, y, 0.5)
    weight = torch.where(counts | (near & torch.isfinite(weight)), weight, 0)
    left, top = torch.floor(x.detach()), torch.floor(y.detach())
    n = torch.arange(batch, device=x.device).view(batch, *(1 for _ in x.shape[1:]))
    g = torch.arange(group, device=x.device).view(group, *(1 for _ in points))
    numbers, weights = [], []
    for row, weight_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, weight_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            inside = near & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            number = ((n * height + row.long()) * width + column.long()) * group + g
            numbers.append(torch.where(inside, number, len(rows) - 1))
            weights.append(weight * (weight_y * weight_x))
    corners = 4 * math.prod(points)
    values = rows.index_select(0, torch.stack(numbers, -1).flatten()).view(-1, corners, rows.shape[1])
    weighed = torch.stack(weights, -1).view(-1, corners, 1)
    # A product of matrices for each output is the CPU's fastest way; a GPU's library is not made for a million of them.
    total = (weighed * values).sum(1) if x.is_cuda else torch.bmm(weighed.mT, values)
    return total.view(*x.shape[:4], rows.shape[1])


def again_in_backward(term: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """term(*arguments); where autograd would keep much (every corner of every point), recomputed in backward."""
    kept = sum(value.numel() for value in arguments if isinstance(value, Tensor))
    if not torch.is_grad_enabled() or kept < RECOMPUTED:
        return term(*arguments)
    out: Tensor = checkpoint(term, *arguments, use_reentrant=False, preserve_rng_state=False)
    return out
