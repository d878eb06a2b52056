"""Cores of DCNv2: modulated deformable convolution, one function and one entry of `CORES` each.

Every core takes (x, offset, mask, weight, *, stride, pad, dilation, group): x (N, C, H, W),
offset (N, 2*G*K, Ho, Wo) with K = k*k points a group, row by row, each a pair (y, x), mask (N, G*K, Ho, Wo),
weight (O, C, k, k) -> (N, O, Ho, Wo). The samples (the columns, K times the input) are written to memory and
multiplied with the weights as one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.kernels.cpu.sampling import sample
from opbench.kernels.geometry import Geometry
from opbench.operators.common import sampling, sampling_compiled, sampling_cpu
from opbench.operators.common.choice import CoreTable
from opbench.operators.common.kernels import MACHINE_CODE, cpu_kernel, fused_steps
from opbench.operators.common.sampling import Steps
from opbench.operators.external import torchvision
from opbench.schema import Implementation


def gather(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, **settings: Any) -> Tensor:
    """Columns by index (`opbench.operators.common.sampling`), as ordinary torch operations."""
    return _by_index(x, offset, mask, weight, sampling.eager, **settings)


def compiled(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, **settings: Any) -> Tensor:
    """Columns by index (`opbench.operators.common.sampling`), fused by torch.compile."""
    return _by_index(x, offset, mask, weight, sampling_compiled.compiled, **settings)


def _by_index(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    steps: Callable[..., Steps],
    *,
    stride: int,
    pad: int,
    dilation: int,
    group: int,
) -> Tensor:
    # int(): while a model is traced, sizes are tensors.
    outputs, channels, k, _ = (int(size) for size in weight.shape)
    geometry = Geometry(k, stride, pad, dilation, group, first="y")
    last = (0, 2, 3, 1)
    columns = sampling.sample(
        x.permute(last), offset.permute(last), mask.permute(last), geometry, steps, reduce=False
    ).flatten(3)
    matrix = weight.reshape(outputs, group, channels // group, k * k).permute(1, 3, 2, 0).reshape(-1, outputs)
    return (columns @ matrix).permute(0, 3, 1, 2)


def grid_sample(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *, stride: int, pad: int, dilation: int, group: int
) -> Tensor:
    """Columns by torch.nn.functional.grid_sample at normalised locations, in float32 for half precision."""
    batch, channels, height, width = x.shape
    outputs, _, k, _ = weight.shape
    out_height, out_width = offset.shape[2:]
    like: dict[str, Any] = {"dtype": torch.promote_types(x.dtype, torch.float32), "device": x.device}
    pairs = offset.to(like["dtype"]).reshape(batch, group, k, k, 2, out_height, out_width)
    tap = torch.arange(k, **like) * dilation - pad
    at_y = pairs[:, :, :, :, 0] + tap.view(k, 1, 1, 1) + (torch.arange(out_height, **like) * stride).view(-1, 1)
    at_x = pairs[:, :, :, :, 1] + tap.view(k, 1, 1) + torch.arange(out_width, **like) * stride
    grid = torch.stack(((2 * at_x + 1) / width - 1, (2 * at_y + 1) / height - 1), -1)
    # grid_sample computes with whatever it gets: NaN, infinite and far locations go to one harmless place outside.
    grid = torch.where(grid.abs() < 3, grid, 4.0).reshape(batch * group, k * k * out_height, out_width, 2)
    images = x.to(like["dtype"]).reshape(batch * group, channels // group, height, width)
    samples = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    samples = samples.reshape(batch, group, channels // group, k * k, -1) * mask.reshape(batch, group, 1, k * k, -1)
    columns = samples.reshape(batch, channels * k * k, -1).to(x.dtype)
    return (weight.reshape(outputs, -1) @ columns).view(batch, outputs, out_height, out_width)


def cpu(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *, stride: int, pad: int, dilation: int, group: int
) -> Tensor:
    """Columns by the CPU's sampling kernel, from positions in float32 at least, and one matrix product."""
    # int(): while a model is traced, sizes are tensors.
    outputs, _, k, _ = (int(size) for size in weight.shape)
    batch, _, out_height, out_width = offset.shape
    points = k * k
    like: dict[str, Any] = {"dtype": torch.promote_types(x.dtype, torch.float32), "device": x.device}
    steps = torch.arange(k, **like) * dilation - pad
    at_y = (torch.arange(out_height, **like) * stride).view(-1, 1, 1, 1) + steps.view(k, 1)
    at_x = (torch.arange(out_width, **like) * stride).view(-1, 1, 1) + steps
    taps = torch.stack(torch.broadcast_tensors(at_y, at_x), -1).view(out_height, out_width, points, 1, 2)
    # Every point is an output pixel of its own: points stand next to each other in a row, then groups.
    pairs = offset.reshape(batch, group, points, 2, out_height, out_width).permute(0, 4, 5, 2, 1, 3)
    masks = mask.reshape(batch, group, points, out_height, out_width).permute(0, 3, 4, 2, 1)
    wide = (batch, out_height, out_width * points, -1)
    columns = sample(
        x.permute(0, 2, 3, 1), (taps + pairs).reshape(wide), masks.reshape(wide), group=group, first="y"
    )  # fmt: skip
    matrix = weight.permute(2, 3, 1, 0).reshape(-1, outputs)
    return (columns.view(batch, out_height, out_width, -1) @ matrix).permute(0, 3, 1, 2)


CORES = CoreTable(
    Implementation("gather", gather, note="columns by index, then one matrix product"),
    Implementation(
        "grid-sample",
        grid_sample,
        deterministic_backward=False,
        note="columns by grid_sample; normalising rounds a location by a few eps * max(H, W) pixels",
    ),
    fused_steps(
        compiled,
        "the gather's steps fused by torch.compile, once per kind of call; scatter and product uncompiled",
    ),
    cpu_kernel(cpu, sampling_cpu.TRAFFIC, f"columns by {MACHINE_CODE}"),
    Implementation(
        "torchvision",
        torchvision.deform_conv2d,
        dtypes=("float64", "float32"),
        missing=torchvision.missing,
        deterministic_backward=False,
        note="torchvision.ops.deform_conv2d",
        package="torchvision",
        traffic=torchvision.TRAFFIC,
    ),
    fallback="gather",
    kernels=("cpu",),
    export="grid-sample",
)
