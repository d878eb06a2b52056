"""Cores of DySample: x (N, C, H, W), offset (N, 2*groups*scale**2, H, W) -> (N, C, scale*H, scale*W).

`core(x, offset, *, scale, groups)` samples x as `definition.sampling` says. `offset`, in float32 at least, holds for
each child how far from its parent's centre it is sampled, x before y. Each core is differentiable in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.kernels.cpu import processor
from opbench.kernels.cpu.dysample import dysample_cpu
from opbench.kernels.triton import launch
from opbench.kernels.triton.dysample import dysample_triton
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


CORES: Mapping[str, Implementation] = {
    core.name: core
    for core in (
        Implementation(
            "grid-sample",
            grid_sample,
            deterministic_backward=False,
            note="as published, but located in float32 at least; the grid is written to memory several times, and "
            "normalising rounds a location by a few eps * max(H, W) pixels",
        ),
        Implementation(
            "cpu",
            dysample_cpu,
            unexportable=processor.UNEXPORTABLE,
            devices=("cpu",),
            missing=processor.missing,
            note="machine code through llvmlite, made on the first call and kept in the user's cache folder; no grid",
            traffic=traffic.CPU,
        ),
        Implementation(
            "triton",
            dysample_triton,
            unexportable=launch.UNEXPORTABLE,
            devices=("cuda",),
            missing=launch.missing,
            deterministic_backward=False,
            note="reads either memory format in place, no grid; x's gradient by atomics, or gathered under "
            "torch.use_deterministic_algorithms(True). Not measured on a GPU yet",
            traffic=traffic.TRITON,
        ),
    )
}
# The first of these that is in the table and runs here is what "auto" means; otherwise grid-sample.
PREFERRED: Mapping[str, tuple[str, ...]] = {"cuda": ("triton",), "cpu": ("cpu",), "export": ("grid-sample",)}
FALLBACK = "grid-sample"
AUTOMATIC = ("triton", "cpu", FALLBACK)
