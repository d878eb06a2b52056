"""What DySample costs: the closed form, and its core as one operation that computes nothing, for MAC counters.

Per input pixel, with s*s children and G groups: 2*G*s*s channels predicted from C (style "pl": 2*G from C/s**2, s*s
times), twice with a dynamic scope; and four multiply-adds for each of the s*s*C samples. Backward takes twice that: a
sample's gradients are those of its value and of its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from opbench.kernels.dysample_shapes import checked_output
from opbench.operators.common.counting import counting, formulas, of_each, zero_core
from opbench.schema import Cost, Dims

SCALE = 2  # of the task `upsample2x`
COUNTING = counting(zero_core("dysample_core(Tensor x, Tensor offset, int scale, int groups)", checked_output))


def _macs(arguments: Sequence[Any]) -> int:
    """Of (x, offset, scale, groups), and whatever changes no count."""
    return int(4 * prod(arguments[0]) * arguments[2] ** 2)


FORMULAS = formulas(_macs, of_each(_macs), "dysample_core", "dysample_cpu", "dysample_triton")


def _counted(channels: int, scale: int, style: str, groups: int, scopes: int, scope_bias: int) -> tuple[int, int]:
    """Parameters, and MACs an input pixel."""
    shuffled = scale**2 if style == "pl" else 1
    rows = 2 * groups * scale**2 // shuffled
    weights = (1 + scopes) * rows * (channels // shuffled)
    return weights + rows * (1 + scope_bias), weights * shuffled + 4 * scale**2 * channels


def module_cost(dims: Dims) -> Cost:
    """Of the layer at the published settings."""
    C, pixels = dims["C"], dims["N"] * dims["H"] * dims["W"]
    params, macs = _counted(C, SCALE, dims["style"], dims["groups"], dims["dyscope"], 0)
    elements = pixels * (1 + SCALE**2) * C + params
    return Cost(params=params, macs=pixels * macs, macs_backward=2 * pixels * macs, elements=elements)


def layer(module: Any, x: Sequence[int], out: Sequence[int]) -> tuple[int, int]:
    """Parameters and MACs of one at any of its arguments."""
    scope = module.scope
    biased = scope is not None and scope.bias is not None
    params, macs = _counted(x[1], module.scale, module.style, module.groups, scope is not None, biased)
    return params, macs * x[0] * x[2] * x[3]
