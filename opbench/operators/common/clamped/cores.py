"""Cores of the convolution of clamped samples: ways to compute the same, one function and one entry of `CORES` each.

Every core takes (x, rows, columns, weight, *, twice) as described at `clamped_definition` and is differentiable in all
four tensors. Places come in float32, or float64 for a float64 x; half-precision inputs are sampled in float32.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.kernels.cpu.sampling import sample
from opbench.operators.common import sampling_cpu
from opbench.operators.common.choice import CoreTable
from opbench.operators.common.kernels import cpu_kernel
from opbench.schema import Implementation


def gather(x: Tensor, rows: Tensor, columns: Tensor, weight: Tensor, *, twice: bool = False) -> Tensor:
    """Four gathers, one for each corner of a sample's cell, weighted and added: the published arithmetic."""
    _, channels, height, width = x.shape
    row, times_row = _held(rows, height, twice)
    column, times_column = _held(columns, width, twice)
    top, left = row.detach().floor(), column.detach().floor()
    pixels = x.flatten(2).to(row.dtype)
    samples = None
    for below in (0, 1):
        for right in (0, 1):
            at = (top + below).clamp(max=height - 1) * width + (left + right).clamp(max=width - 1)
            index = at.long().flatten(1).unsqueeze(1).expand(-1, channels, -1)
            share = (1 - (row - top - below).abs()) * (1 - (column - left - right).abs()) * times_row * times_column
            corner = pixels.gather(2, index) * share.flatten(1).unsqueeze(1)
            samples = corner if samples is None else samples + corner
    assert samples is not None
    return _product(samples, rows, x, weight)


def grid_sample(x: Tensor, rows: Tensor, columns: Tensor, weight: Tensor, *, twice: bool = False) -> Tensor:
    """Samples by torch.nn.functional.grid_sample at places that are normalised."""
    _, _, height, width = x.shape
    row, times_row = _held(rows, height, twice)
    column, times_column = _held(columns, width, twice)
    grid = torch.stack(((2 * column + (1 - width)) / width, (2 * row + (1 - height)) / height), -1).flatten(2, 3)
    samples = F.grid_sample(x.to(grid.dtype), grid, mode="bilinear", padding_mode="border", align_corners=False)
    if twice:
        samples = samples * (times_row * times_column).flatten(2).unsqueeze(1)
    return _product(samples, rows, x, weight)


def cpu(x: Tensor, rows: Tensor, columns: Tensor, weight: Tensor, *, twice: bool = False) -> Tensor:
    """Samples by the CPU's sampling kernel, a pixel's side by side, then one product of matrices an image."""
    batch, points, height, width = rows.shape
    last = (0, 2, 3, 1)
    positions = torch.stack((columns.permute(last), rows.permute(last)), -1)
    # A row's samples are one row of the kernel's output: it works out hundreds of neighbours at once.
    located = positions.to(torch.promote_types(x.dtype, torch.float32)).view(batch, height, width * points, 2)
    samples = sample(x.permute(last), located, padding="border-twice" if twice else "border")
    flat = samples.view(batch, height * width, points * x.shape[1]).transpose(1, 2)
    matrix = weight.transpose(1, 2).flatten(1).expand(batch, -1, -1)
    out: Tensor = torch.bmm(matrix, flat).unflatten(2, (height, width))
    return out


def _held(at: Tensor, size: int, twice: bool) -> tuple[Tensor, Any]:
    """Places moved into the image, without a gradient where they were outside, and how often they count."""
    inside = (at >= 0) & (at < size - 1)
    # NaN is not above anything.
    still = at.detach()
    held = torch.where(inside, at, torch.where(still > 0, still, 0).clamp(max=size - 1))
    return held, torch.where(inside, 1.0, 2.0).to(at.dtype) if twice else 1.0


def _product(samples: Tensor, rows: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """samples (N, C, P, L) or (N, C, P*L) times weight (O, C, P), in the dtype of x: (N, O, Ho, Wo)."""
    batch, points, height, width = rows.shape
    flat = samples.to(x.dtype).reshape(batch, x.shape[1] * points, height * width)
    return (weight.flatten(1) @ flat).view(batch, weight.shape[0], height, width)


CORES = CoreTable(
    Implementation(
        "gather",
        gather,
        deterministic_backward=False,
        note="the published arithmetic: each corner of the samples is gathered and written to memory",
    ),
    Implementation(
        "grid-sample",
        grid_sample,
        deterministic_backward=False,
        note="samples by grid_sample, written to memory once; normalising rounds a place by a few eps * max(H, W)",
    ),
    cpu_kernel(cpu, sampling_cpu.TRAFFIC, "samples by machine code through llvmlite, channels last, written to memory"),
    fallback="grid-sample",
    kernels=("cpu",),
    export="grid-sample",
)
