"""What DCNv3 costs: closed forms, and its core as one dispatched operation that computes nothing, for MAC counters.

`opbench::dcnv3_core` and its backward allocate what the real ones return, so a counter that knows their formulas
counts every core alike, at the cost of the module's own convolutions.

Forward: each of the P points of an output pixel is four multiply-adds per channel, the mask being folded into the
four bilinear weights: 4PC. Backward: the gradient of x scatters the same products back, 4PC; those of offset and mask
share the four inner products <grad, corner> of each point, another 4PC. Everything else in either direction is work
per point, not per channel, and elementwise: no MACs.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from opbench.operators.common.counting import counting, formulas, of_all, of_x_and_others, zero_core
from opbench.operators.dcnv3.settings import DCNv3Settings
from opbench.schema import Cost, Dims


def _shape(x: Tensor, offset: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(*offset.shape[:3], x.shape[-1])


count = zero_core(
    "dcnv3_core(Tensor x, Tensor offset, Tensor mask, int kernel_size, int stride, int pad, int dilation, int group, "
    "float offset_scale, bool remove_center)",
    _shape,
)
COUNTING = counting(count)


def core_macs(channels: int, points: int, pixels: int) -> int:
    """4PC per output pixel: `points` is P, `pixels` is N*Ho*Wo. Backward takes twice that."""
    return 4 * points * channels * pixels


def _macs(arguments: Sequence[Any]) -> int:
    """Of a core's arguments; what follows them, as Triton's `deterministic`, changes no count."""
    x, _, mask, _, _, _, _, group, *_ = arguments
    return core_macs(x[-1], mask[-1] // group, mask[0] * mask[1] * mask[2])


FORMULAS = {
    **formulas(_macs, of_all(_macs), "dcnv3_core"),
    # The softmax of logits is elementwise, which is reported apart.
    **formulas(_macs, of_x_and_others(_macs), "dcnv3_cpu", "dcnv3_cpu_logits"),
    **formulas(_macs, of_x_and_others(_macs), "dcnv3_triton", "dcnv3_triton_logits"),
}


def core_settings(dims: Dims) -> DCNv3Settings:
    """Those of the task `dcnv3_core`, whose pad is "same"."""
    k, dilation = dims["k"], dims["dilation"]
    return DCNv3Settings(
        kernel_size=k, stride=dims["stride"], pad=dilation * (k - 1) // 2, dilation=dilation, group=dims["G"]
    )


def core_output_size(dims: Dims) -> tuple[int, int]:
    """Ho and Wo of the task `dcnv3_core`."""
    settings = core_settings(dims)
    return settings.output_size(dims["H"]), settings.output_size(dims["W"])


def core_cost(dims: Dims) -> Cost:
    """4PC MACs per output pixel; backward twice that. x, offset, mask and output once each."""
    N, C, G, P = dims["N"], dims["C"], dims["G"], dims["k"] ** 2
    height, width = core_output_size(dims)
    pixels = N * height * width
    macs = core_macs(C, P, pixels)
    elements = N * dims["H"] * dims["W"] * C + pixels * (3 * G * P + C)
    return Cost(params=0, macs=macs, macs_backward=2 * macs, elements=elements)


def module_cost(dims: Dims) -> Cost:
    """Parameters 2C^2 + 5C + 9C + 27G(C+1); MACs per pixel 2C^2 + 9C + 27GC of layers and 36C of the core.

    (P = 9 points and a 3x3 depthwise convolution.) Backward: layers twice, core twice.
    """
    C, G, P, pixels = dims["C"], dims["G"], 9, dims["N"] * dims["H"] * dims["W"]
    params = 2 * C * C + 5 * C + 9 * C + 3 * G * P * (C + 1)
    macs = (2 * C * C + 9 * C + 3 * G * P * C) * pixels + core_macs(C, P, pixels)
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=2 * C * pixels + params)


def block_cost(dims: Dims) -> Cost:
    """The module's, with a 1x1 convolution before it (C^2) and two batch norms (4C parameters)."""
    inner, C = module_cost(dims), dims["C"]
    pixels = dims["N"] * dims["H"] * dims["W"]
    params = inner.params + C * C + 4 * C
    macs = inner.macs + C * C * pixels
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=2 * C * pixels + params)


Shape = tuple[int, ...]


def layer(module: Any, x: Shape, out: Shape) -> tuple[int, int]:
    """2C^2 + 5C + C kd^2 + 3GP(C+1) [+ GC + G] parameters; 2C^2 + kd^2 C + 3GPC + 4PC MACs a pixel (N, H, W)."""
    C, G, P = module.channels, module.group, module.kernel_size**2 - module.remove_center
    window, blended = module.dw_kernel_size**2, module.center_feature_scale
    pixels_in, pixels = (prod(shape) // C for shape in (x, out))
    params = 2 * C * C + 5 * C + C * window + 3 * G * P * (C + 1) + blended * (G * C + G)
    projections = C * C * (pixels_in + pixels)
    return params, projections + (window * C + 3 * G * P * C + blended * G * C) * pixels + core_macs(C, P, pixels)
