"""mmcv's CARAFE."""

from __future__ import annotations

import importlib

from torch import Tensor


def carafe(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """x (N, C, H, W), mask (N, g*k*k, sH, sW): mmcv.ops.carafe, which has our core's layout. CUDA."""
    operation = importlib.import_module("mmcv.ops").carafe
    out: Tensor = operation(x.contiguous(), mask.contiguous(), kernel_size, group_size, scale_factor)
    return out
