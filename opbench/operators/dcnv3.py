"""DCNv3 (InternImage, arXiv 2211.05778): the public names, and the declaration of its sampling as an operator.

    dcnv3(x, offset, mask, *, kernel_size, stride=1, pad, dilation=1, group, offset_scale=1.0, remove_center=False)
    DCNv3(channels=64, kernel_size=3, ...)             channels last
    DCNV3_YoLo(inc, ouc, k=1, s=1, p=None, g=1, d=1)   channels first

The operator's dimensions are N C H W G k stride dilation; pad is "same", dilation*(k-1)//2.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from opbench.operators.choice import Core
from opbench.operators.conv3x3_task import groups_divide
from opbench.operators.dcnv3_cores import CORES
from opbench.operators.dcnv3_counting import COUNTING, FORMULAS, core_macs
from opbench.operators.dcnv3_definition import dcnv3_definition
from opbench.operators.dcnv3_function import dcnv3, output_size
from opbench.operators.dcnv3_modules import DCNv3, DCNV3_YoLo
from opbench.operators.dcnv3_terms import dcnv3_terms
from opbench.registry import register_operator
from opbench.schema import Cost, Dims, Implementation, Operator, Tensors, Terms

__all__ = ["CORES", "DCNV3_YoLo", "DCNv3", "dcnv3"]

PAPER = "InternImage, arXiv 2211.05778, section 3.1"
# Locations of drawn inputs stay this far from whole pixels, where the gradient of bilinear sampling jumps.
NUDGE = 2e-3
# Pixels: every offset at a spread of 0.
SAME = 0.3


class Sampling(nn.Module):
    """The core alone as a module: called with x, offset and mask."""

    def __init__(self, core: Core, settings: Mapping[str, int | float | bool]) -> None:
        super().__init__()
        self.core = core
        self.settings = settings

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P) -> (N, Ho, Wo, C)."""
        return self.core(x, offset, mask, **self.settings)


def _settings(dims: Dims) -> dict[str, int | float | bool]:
    return {
        "kernel_size": dims["k"],
        "stride": dims["stride"],
        "pad": dims["dilation"] * (dims["k"] - 1) // 2,
        "dilation": dims["dilation"],
        "group": dims["G"],
        "offset_scale": 1.0,
        "remove_center": False,
    }


def _output_size(dims: Dims) -> tuple[int, int]:
    k, stride, dilation = dims["k"], dims["stride"], dims["dilation"]
    pad = dilation * (k - 1) // 2
    return output_size(dims["H"], k, stride, pad, dilation), output_size(dims["W"], k, stride, pad, dilation)


def _core_inputs(dims: Dims, spread: float, generator: torch.Generator) -> dict[str, Tensor]:
    """x standard normal, offsets normal with `spread` pixels, mask a softmax of normal logits; all float64.

    At a spread of 0 every offset is SAME: as regular as zeros, but off the kink at whole locations.
    """
    N, C, G, P = dims["N"], dims["C"], dims["G"], dims["k"] ** 2
    height, width = _output_size(dims)

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


def _core_cost(dims: Dims) -> Cost:
    """4PC MACs per output pixel; backward twice that (see `dcnv3_counting`). x, offset, mask and output once each."""
    N, C, G, P = dims["N"], dims["C"], dims["G"], dims["k"] ** 2
    height, width = _output_size(dims)
    pixels = N * height * width
    macs = core_macs(C, P, pixels)
    elements = N * dims["H"] * dims["W"] * C + pixels * (3 * G * P + C)
    return Cost(params=0, macs=macs, macs_backward=2 * macs, elements=elements)


def _core_module(dims: Dims, implementation: Implementation) -> nn.Module:
    assert implementation.function is not None
    return Sampling(implementation.function, _settings(dims))


def _core_definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return dcnv3_definition(tensors["x"], tensors["offset"], tensors["mask"], **_settings(dims))  # type: ignore[arg-type]


def _core_terms(dims: Dims, tensors: Tensors, grad_output: Tensor | None) -> dict[str, Terms]:
    return dcnv3_terms(tensors["x"], tensors["offset"], tensors["mask"], grad_output, **_settings(dims))


def _core_requires(dims: Dims) -> str | None:
    if min(_output_size(dims)) < 1:
        return f"{dims['H']} x {dims['W']} pixels are smaller than the dilated kernel"
    return groups_divide(dims)


CORE = register_operator(
    Operator(
        name="dcnv3",
        task="dcnv3_core",
        title="DCNv3 sampling",
        source=f"{PAPER}, equation 2",
        inputs=_core_inputs,
        module=_core_module,
        definition=_core_definition,
        magnitude=_core_terms,
        cost=_core_cost,
        implementations=CORES,
        requires=_core_requires,
        counting=COUNTING,
        formulas=FORMULAS,
    )
)
