"""The tasks: slots in a network, and the contender everything else in the slot is compared with."""

from __future__ import annotations

import torch

from opbench.registry import register_task
from opbench.schema import Dims, Task


def image(dims: Dims, spread: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """x (N, C, H, W), standard normal."""
    return {"x": torch.randn(tuple(dims[axis] for axis in "NCHW"), generator=generator, dtype=torch.float64)}


UPSAMPLE2X = register_task(
    Task(
        name="upsample2x",
        title="x2 upsampling: (N, C, H, W) -> (N, C, 2H, 2W)",
        baseline="nearest[torch]",
        dims=("N", "C", "H", "W"),
        inputs=image,
    )
)

CONV3X3 = register_task(
    Task(
        name="conv3x3",
        title="3x3 spatial mixing: (N, C, H, W) -> (N, C, H, W)",
        baseline="conv3x3[torch]",
        dims=("N", "C", "H", "W", "G"),
        deformable=True,
        inputs=image,
    )
)

CARAFE_CORE = register_task(
    Task(
        name="carafe_core",
        title="CARAFE reassembly alone: x (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W)",
        baseline="carafe[unfold]",
        dims=("N", "C", "H", "W"),
        defaults={"k": 5, "g": 1, "s": 2},
    )
)

DCNV3_CORE = register_task(
    Task(
        name="dcnv3_core",
        title="DCNv3 sampling alone: x (N, H, W, C), offset (N, H, W, G*P*2), mask (N, H, W, G*P) -> (N, H, W, C)",
        baseline="dcnv3[grid-sample]",
        dims=("N", "C", "H", "W", "G"),
        defaults={"k": 3, "stride": 1, "dilation": 1},
        deformable=True,
    )
)
