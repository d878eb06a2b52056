"""Cores of DCNv3: ways to compute the same sampling, one function and one entry of `CORES` each.

Every core takes (x, offset, mask, *, kernel_size, stride, pad, dilation, group, offset_scale, remove_center) as
described at `opbench.operators.dcnv3.dcnv3`, whose checks come first, and is differentiable in x, offset and mask.
Half-precision inputs are computed in float32, coordinates and sums included; only the result is rounded back.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.kernels.cpu.dcnv3 import dcnv3_cpu, dcnv3_cpu_logits
from opbench.kernels.geometry import Geometry
from opbench.kernels.triton.dcnv3 import dcnv3_triton, dcnv3_triton_logits
from opbench.operators.common import sampling, sampling_compiled
from opbench.operators.common.choice import CoreTable
from opbench.operators.common.kernels import cpu_kernel, fused_steps, triton_kernel
from opbench.operators.dcnv3 import traffic
from opbench.operators.dcnv3.settings import DCNv3Settings
from opbench.operators.external.peers import DCNV3_PEERS
from opbench.schema import Implementation


def grid_sample(x: Tensor, offset: Tensor, mask: Tensor, **options: Any) -> Tensor:
    """The arithmetic of InternImage's `dcnv3_core_pytorch`: pad, normalise the locations, sample, weigh, sum."""
    settings = DCNv3Settings(**options)
    group, pad = settings.group, settings.pad
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    padded = F.pad(x.to(dtype), (0, 0, pad, pad, pad, pad))
    batch, height, width, channels = padded.shape
    _, out_height, out_width, _ = offset.shape
    points = settings.points
    if 0 in (batch, out_height, out_width):
        # Nothing to sample, but what autograd asks for is still connected to the inputs.
        return (x.sum() + offset.sum() + mask.sum()) * x.new_zeros(batch, out_height, out_width, channels)
    grid = _normalised_grid(offset.to(dtype), height, width, settings)
    # grid_sample computes with whatever it gets: NaN, infinite and far locations go to one harmless place outside.
    grid = torch.where(grid.abs() < 2, grid, 3.0)

    images = padded.reshape(batch, height * width, channels).transpose(1, 2)
    images = images.reshape(batch * group, channels // group, height, width)
    grid = grid.reshape(batch, out_height * out_width, group, points, 2).transpose(1, 2).flatten(0, 1)
    samples = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    weights = mask.to(dtype).reshape(batch, out_height * out_width, group, points).transpose(1, 2)
    summed = (samples * weights.reshape(batch * group, 1, out_height * out_width, points)).sum(-1)
    out = summed.view(batch, channels, out_height * out_width).transpose(1, 2)
    return out.reshape(batch, out_height, out_width, channels).to(x.dtype)


def _normalised_grid(offset: Tensor, height: int, width: int, settings: DCNv3Settings) -> Tensor:
    """Locations (N, Ho, Wo, G, P, 2) in the padded image, where [-1, 1] spans its area."""
    batch, out_height, out_width, _ = offset.shape
    like: dict[str, Any] = {"dtype": offset.dtype, "device": offset.device}
    # Filled, not copied from the host: a CUDA graph that is being captured forbids it.
    size = torch.stack((torch.full((), width, **like), torch.full((), height, **like)))
    half, stride, offset_scale = settings.half, settings.stride, settings.offset_scale
    centre_x = half + 0.5 + torch.arange(out_width, **like) * stride
    centre_y = half + 0.5 + torch.arange(out_height, **like) * stride
    reference = torch.stack(torch.meshgrid(centre_x, centre_y, indexing="xy"), -1) / size
    steps = torch.arange(settings.kernel_size, **like) * settings.dilation - half
    window = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1).view(-1, 2) / size
    if settings.remove_center:
        window = torch.cat((window[: len(window) // 2], window[len(window) // 2 + 1 :]))
    pairs = offset.reshape(batch, out_height, out_width, settings.group, -1, 2)
    locations = reference.view(1, out_height, out_width, 1, 1, 2) + window * offset_scale
    return 2 * (locations + pairs * offset_scale / size) - 1


def gather(x: Tensor, offset: Tensor, mask: Tensor, **settings: Any) -> Tensor:
    """Weighted rows by index (`opbench.operators.common.sampling`), as ordinary torch operations."""
    return sampling.sample(x, offset, mask, Geometry(**settings), sampling.eager)


def compiled(x: Tensor, offset: Tensor, mask: Tensor, **settings: Any) -> Tensor:
    """Weighted rows by index (`opbench.operators.common.sampling`), fused by torch.compile."""
    return sampling.sample(x, offset, mask, Geometry(**settings), sampling_compiled.compiled)


# The exception to the rule that a sample outside contributes nothing, whatever its mask holds.
LEAKS = "; a NaN or infinite mask of a sample outside makes NaN"

CORES = CoreTable(
    Implementation(
        "grid-sample",
        grid_sample,
        deterministic_backward=False,
        note=f"as the official Python core; normalising rounds a location by a few eps * max(H, W) pixels, "
        f"and the samples (P times the output) are written to memory{LEAKS}",
    ),
    Implementation(
        "gather",
        gather,
        note="bilinear rows by index, 4P multiply-adds per channel; neither samples nor columns are written out"
        f"{LEAKS}",
    ),
    fused_steps(
        compiled,
        f"the gather's steps fused by torch.compile, once per kind of call; its scatter to x stays uncompiled{LEAKS}",
    ),
    cpu_kernel(dcnv3_cpu, traffic.CPU),
    triton_kernel(
        dcnv3_triton,
        traffic.TRITON,
        "locates samples in registers; x's gradient by atomics, or gathered under "
        "torch.use_deterministic_algorithms(True). Not measured on a GPU yet",
        deterministic_backward=False,
    ),
    *DCNV3_PEERS.values(),
    fallback="gather",
    kernels=("triton", "cpu"),
    export="grid-sample",
    # The softmax over the points is in these kernels.
    fused=((dcnv3_cpu, dcnv3_cpu_logits), (dcnv3_triton, dcnv3_triton_logits)),
)
