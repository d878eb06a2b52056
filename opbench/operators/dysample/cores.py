"""Cores of DySample: x (N, C, H, W), offset (N, 2*groups*scale**2, H, W) -> (N, C, scale*H, scale*W).

`core(x, offset, *, scale, groups)` samples x as `definition.sampling` says. `offset`, in float32 at least, holds for
each child how far from its parent's centre it is sampled, x before y. Each core is differentiable in both.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.kernels.cpu.dysample import dysample_cpu
from opbench.kernels.triton.dysample import dysample_triton
from opbench.operators.common.choice import CoreTable
from opbench.operators.common.kernels import MACHINE_CODE, cpu_kernel, triton_kernel
from opbench.operators.dysample import traffic
from opbench.schema import Implementation


def grid_sample(x: Tensor, offset: Tensor, *, scale: int, groups: int) -> Tensor:
    """The authors' steps: normalise the locations, shuffle their pixels, `torch.nn.functional.grid_sample`."""
    N, C, H, W = x.shape
    size = (scale * H, scale * W)
    like: dict[str, Any] = {"dtype": offset.dtype, "device": x.device}
    moves = offset.view(N, 2, -1, H, W)
    across = 2 * (torch.arange(W, **like) + 0.5 + moves[:, 0]) / W - 1
    down = 2 * ((torch.arange(H, **like) + 0.5).view(-1, 1) + moves[:, 1]) / H - 1
    # Shuffled in four dimensions: ONNX has no other.
    grid = F.pixel_shuffle(torch.stack((across, down), 1).view(N, -1, H, W), scale)
    grid = grid.view(N, 2, groups, *size).permute(0, 2, 3, 4, 1).flatten(0, 1)
    images = x.reshape(N * groups, C // groups, H, W).to(offset.dtype)
    out = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return out.view(N, C, *size).to(x.dtype)


CORES = CoreTable(
    Implementation(
        "grid-sample",
        grid_sample,
        deterministic_backward=False,
        note="as published, but located in float32 at least; the grid is written to memory several times, and "
        "normalising rounds a location by a few eps * max(H, W) pixels",
    ),
    cpu_kernel(dysample_cpu, traffic.CPU, f"{MACHINE_CODE}; no grid"),
    triton_kernel(
        dysample_triton,
        traffic.TRITON,
        "reads either memory format in place, no grid; x's gradient by atomics, or gathered under "
        "torch.use_deterministic_algorithms(True). Not measured on a GPU yet",
        deterministic_backward=False,
    ),
    fallback="grid-sample",
    kernels=("triton", "cpu"),
    export="grid-sample",
)
