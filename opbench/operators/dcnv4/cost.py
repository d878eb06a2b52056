"""What DCNv4 costs: closed forms, and its core as an operation that computes nothing, for MAC counters.

The core is DCNv3's: 4PC a pixel forward, twice that backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from opbench.kernels.dcnv4_packed import unpack, width
from opbench.operators.common.counting import counting, formulas, of_each
from opbench.operators.dcnv3 import cost as dcnv3
from opbench.schema import Cost, Dims


def count(
    x: Tensor, offset_mask: Tensor, *, kernel_size: int, group: int, remove_center: bool, **options: Any
) -> Tensor:
    """The core as counters see it: the right shapes, all zeros."""
    parts = unpack(offset_mask, group, kernel_size**2 - remove_center)
    return dcnv3.count(x, *parts, kernel_size=kernel_size, group=group, remove_center=remove_center, **options)


COUNTING = counting(count)


def _macs(arguments: Sequence[Any]) -> int:
    """Of a core's arguments; what follows them, as Triton's `deterministic`, changes no count."""
    x, offset_mask, size, _, _, _, _, _, remove_center, *_ = arguments
    return dcnv3.core_macs(x[-1], size * size - remove_center, prod(offset_mask[:3]))


FORMULAS = {
    **dcnv3.FORMULAS,
    # The softmax of logits is elementwise, which is reported apart.
    **formulas(_macs, of_each(_macs), "dcnv4_cpu", "dcnv4_triton", "dcnv4_triton_logits"),
}


def module_cost(dims: Dims) -> Cost:
    """Parameters 2(C^2 + C) + M(C + 1); MACs per pixel 2C^2 + MC of layers and 36C of the core. Backward: twice."""
    C, pixels = dims["C"], dims["N"] * dims["H"] * dims["W"]
    M = width(dims["G"], 9)
    params = 2 * (C * C + C) + M * (C + 1)
    macs = (2 * C * C + M * C) * pixels + dcnv3.core_macs(C, 9, pixels)
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=2 * C * pixels + params)


Shape = tuple[int, ...]


def layer(module: Any, x: Shape, out: Shape) -> tuple[int, int]:
    """Parameters and MACs of a module at any of its arguments, from the shapes of its input and output."""
    C, G, P = module.channels, module.group, module.kernel_size**2 - module.remove_center
    M, window = width(G, P), (module.dw_kernel_size or 0) ** 2
    pixels_in, pixels = (prod(shape) // C for shape in (x, out))
    params = M * (C + 1) + bool(window) * C * (window + 1)
    macs = (M * C + window * C) * pixels + dcnv3.core_macs(C, P, pixels)
    if module.center_feature_scale:
        params, macs = params + G * (C + 1), macs + G * C * pixels
    if not module.without_pointwise:
        params += 2 * C * C + C + C * (module.output_proj.bias is not None)
        macs += C * C * (pixels_in + pixels)
    return params, macs
