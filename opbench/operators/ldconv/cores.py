"""LDConv's cores: those of the convolution of clamped samples, and the published steps."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from opbench.operators.common.clamped.cores import CORES as CLAMPED
from opbench.schema import Implementation


def published(x: Tensor, rows: Tensor, columns: Tensor, weight: Tensor, *, twice: bool = True) -> Tensor:
    """The authors' steps: samples last, an index of its own for every channel, and a convolution of stacked samples.

    Raises ValueError without `twice`: both corners of a clamped cell count in full. Places must be numbers.
    """
    if not twice:
        raise ValueError("the published steps count a clamped sample twice; use another implementation for twice=False")
    batch, channels, height, width = x.shape
    _, points, out_height, out_width = rows.shape
    last = (0, 2, 3, 1)
    corners, shares = [], []
    for places, size in ((rows.permute(last), height), (columns.permute(last), width)):
        held, floor = places.clamp(0, size - 1), places.detach().floor()
        near, far = floor.clamp(0, size - 1), (floor + 1).clamp(0, size - 1)
        corners.append((near.long(), far.long()))
        shares.append((1 + (near - held), 1 - (far - held)))
    pixels = x.flatten(2).to(rows.dtype)
    samples = None
    for row, down in zip(corners[0], shares[0], strict=True):
        for column, right in zip(corners[1], shares[1], strict=True):
            index = (row * width + column).unsqueeze(1).expand(-1, channels, -1, -1, -1).contiguous()
            corner = pixels.gather(2, index.flatten(2)).view(batch, channels, out_height, out_width, points)
            part = (down * right).unsqueeze(1) * corner
            samples = part if samples is None else samples + part
    assert samples is not None
    stacked = samples.transpose(3, 4).reshape(batch, channels, out_height * points, out_width).to(x.dtype)
    return F.conv2d(stacked, weight.unsqueeze(3), stride=(points, 1))


CORES = CLAMPED.extended(
    Implementation(
        "published",
        published,
        deterministic_backward=False,
        note="the authors' steps: as `gather`, but an index for every channel is written to memory, four times",
    ),
)
