"""DCNv3's sampling alone, as it competes in the task `dcnv3_core`: dimensions N C H W G k stride dilation.

The pad is "same", dilation*(k-1)//2.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from opbench.operators.common.choice import Core
from opbench.operators.dcnv3.cores import CORES
from opbench.operators.dcnv3.cost import COUNTING, FORMULAS, core_cost, core_output_size, core_settings
from opbench.operators.dcnv3.definition import dcnv3_definition
from opbench.operators.dcnv3.function import dcnv3
from opbench.operators.dcnv3.terms import dcnv3_terms
from opbench.schema import Dims, Implementation, Operator, Task, Tensors, Terms
from opbench.tasks import SAME, groups_divide

TASK = Task(
    name="dcnv3_core",
    title="DCNv3 sampling alone: x (N, H, W, C), offset (N, H, W, G*P*2), mask (N, H, W, G*P) -> (N, H, W, C)",
    baseline="dcnv3[grid-sample]",
    dims=("N", "C", "H", "W", "G"),
    defaults={"k": 3, "stride": 1, "dilation": 1},
    deformable=True,
    memory_formats=("contiguous",),  # the channels of a pixel are side by side as it is
)

PAPER = "InternImage, arXiv 2211.05778, section 3.1"
# Locations of drawn inputs stay this far from whole pixels, where the gradient of bilinear sampling jumps.
NUDGE = 2e-3


class Sampling(nn.Module):
    """The core alone as a module: called with x, offset and mask."""

    def __init__(self, core: Core, settings: Mapping[str, int | float | bool]) -> None:
        super().__init__()
        self.core = core
        self.settings = settings

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P) -> (N, Ho, Wo, C)."""
        return self.core(x, offset, mask, **self.settings)


def _inputs(dims: Dims, spread: float, generator: torch.Generator) -> dict[str, Tensor]:
    """x standard normal, offsets normal with `spread` pixels, mask a softmax of normal logits; all float64.

    At a spread of 0 every offset is SAME: as regular as zeros, but off the kink at whole locations.
    """
    N, C, G, P = dims["N"], dims["C"], dims["G"], dims["k"] ** 2
    height, width = core_output_size(dims)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x = normal(N, dims["H"], dims["W"], C)
    offset = normal(N, height, width, G * P * 2) * spread
    if spread:
        whole = offset.floor()
        offset = whole + (offset - whole).clamp(NUDGE, 1 - NUDGE)
    else:
        offset += SAME
    mask = normal(N, height, width, G, P).softmax(-1).flatten(-2)
    return {"x": x, "offset": offset, "mask": mask}


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    assert implementation.function is not None
    return Sampling(implementation.function, core_settings(dims).options)


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return dcnv3_definition(tensors["x"], tensors["offset"], tensors["mask"], **core_settings(dims).options)


def _terms(dims: Dims, tensors: Tensors, grad_output: Tensor | None) -> dict[str, Terms]:
    return dcnv3_terms(tensors["x"], tensors["offset"], tensors["mask"], grad_output, **core_settings(dims).options)


def _requires(dims: Dims) -> str | None:
    if min(core_output_size(dims)) < 1:
        return f"{dims['H']} x {dims['W']} pixels are smaller than the dilated kernel"
    return groups_divide(dims)


OPERATOR = Operator(
    name="dcnv3",
    task=TASK.name,
    title="DCNv3 sampling",
    subject="DCNv3",
    source=f"{PAPER}, equation 2",
    inputs=_inputs,
    module=_module,
    definition=_definition,
    magnitude=_terms,
    cost=core_cost,
    implementations=CORES,
    requires=_requires,
    counting=COUNTING,
    preferred=CORES.automatic,
    core=dcnv3,
    relations="opbench.operators.dcnv3.relations:RELATIONS",
    formulas=FORMULAS,
)
