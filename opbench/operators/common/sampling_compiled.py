"""The steps of `sampling` through torch.compile: every step one fused loop over pixels, points and channels.

Row numbers and weights are written out once, between two compiled functions: in a single one the compiler would
compute them again for every channel, which is five times slower. Each kind of call (shapes, dtypes, device, settings)
is compiled on its first use, which takes seconds; nothing here runs uncompiled unnoticed.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from opbench.kernels.geometry import Geometry
from opbench.operators.common import sampling
from opbench.operators.common.compiling import compiled_apart
from opbench.operators.common.sampling import Steps


def compiled(x: Tensor, offset: Tensor, geometry: Geometry, reduce: bool) -> Steps:
    """The steps compiled for this kind of call."""
    modes = (torch.is_inference_mode_enabled(), x.is_inference(), offset.is_inference(), torch.get_num_threads())
    return _compiled((x.shape, offset.shape, x.dtype, x.device, geometry, reduce, *modes))


@functools.cache
def _compiled(kind: tuple[Any, ...]) -> Steps:
    return Steps(
        cells=compiled_apart(sampling.cells),  # type: ignore[arg-type]
        accumulate=compiled_apart(_accumulate),
        gradients=compiled_apart(_gradients),  # type: ignore[arg-type]
    )


def _accumulate(rows: Tensor, cell: Tensor, weights: list[Tensor], corners: tuple[int, ...]) -> Tensor:
    # Unrolled over points, so that the loop over channels is the inner one, and vectorised.
    out = torch.zeros(cell.shape[0], rows.shape[1], dtype=rows.dtype, device=rows.device)
    for point in range(cell.shape[1]):
        for weight, corner in zip(weights, corners, strict=True):
            out = out + rows[cell[:, point] + corner] * weight[:, point, None]
    return out


def _gradients(
    rows: Tensor,
    cell: Tensor,
    grad: Tensor,
    corners: tuple[int, ...],
    offset: Tensor,
    mask: Tensor,
    geometry: Geometry,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor]:
    products = [(rows[cell + corner] * grad[:, None, :]).sum(-1).view(mask.shape) for corner in corners]
    return sampling.combine(products, offset, mask, geometry, height, width)
