"""Bilinear sampling in operations that every exporter and runtime knows: what `gather` is while it is exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from opbench.kernels.formulas import samples

if TYPE_CHECKING:
    from opbench.operators.common.sampling import Geometry


def sample_rows(x: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry, reduce: bool) -> Tensor:
    """What `sampling.sample` computes, as rows by index and one batched product.

    x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P) -> (N, Ho, Wo, G, P, C/G), weighed by the mask, or
    (N, Ho, Wo, C) with `reduce`.
    Neither GridSample, bags, loops over the image nor sizes that are known only here: an artifact with free batch and
    size keeps them.
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    column, line = geometry.locations(offset.to(dtype))
    found = samples(x, column, line, mask, geometry.group, geometry.points)
    return found.sum(-2).flatten(-2) if reduce else found
