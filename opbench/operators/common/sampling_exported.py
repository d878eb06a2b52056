"""Bilinear sampling in operations that every exporter and runtime knows: what `gather` is while it is exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from opbench.operators.common.sampling import Geometry


def sample_rows(x: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry) -> Tensor:
    """What `sampling.sample` computes, as rows by index and one batched product.

    x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P) -> (N, Ho, Wo, G, P, C/G), weighed by the mask.
    Neither GridSample, bags, loops over the image nor sizes that are known only here: an artifact with free batch and
    size keeps them. All four corners of every sample are written down (4P times the output), which is what it costs.
    """
    batch, height, width, channels = x.shape
    group, points = geometry.group, geometry.points
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    column, line = geometry.locations(offset.to(dtype))
    counts = (column > -1) & (column < width) & (line > -1) & (line < height)
    # A location that doesn't count may be NaN: it is replaced before anything is computed from it.
    column, line = torch.where(counts, column, 0.0), torch.where(counts, line, 0.0)
    weight = torch.where(counts, mask.to(dtype), 0.0)
    left, top = column.floor(), line.floor()
    right_share, lower_share = column - left, line - top
    numbers, weights = [], []
    images = torch.arange(batch, device=x.device).view(batch, 1, 1, 1) * height
    groups = torch.arange(group, device=x.device).repeat_interleave(points)
    for row, row_share in ((top, 1 - lower_share), (top + 1, lower_share)):
        for place, share in ((left, 1 - right_share), (left + 1, right_share)):
            inside = (row >= 0) & (row < height) & (place >= 0) & (place < width)
            pixel = (images + row.clamp(min=0).long().clamp(max=height - 1)) * width
            pixel = pixel + place.clamp(min=0).long().clamp(max=width - 1)
            numbers.append(pixel * group + groups)
            weights.append(weight * row_share * share * inside.to(dtype))
    rows = x.to(dtype).reshape(batch * height * width * group, channels // group)
    corners = rows.index_select(0, torch.stack(numbers, -1).reshape(-1))
    shape = (*offset.shape[:3], group, points)
    corners = corners.reshape(*shape, 4, channels // group)
    # A sum, not a product of matrices: runtimes have no fast path for a million products of 1x4 by 4xC.
    return (corners * torch.stack(weights, -1).reshape(*shape, 4, 1)).sum(-2).to(x.dtype)
