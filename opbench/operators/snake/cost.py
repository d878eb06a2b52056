"""What the block with dynamic snake convolution costs, at any of its arguments.

Parameters, of k samples: k*k*C*O + 2O of the convolution, 18kC + 6k + kCO + 3O of each snake, 3*O*O + 2O of the fusion.
MACs of a pixel: k*k*C*O, of each snake 18kC and, of the core, (4 + O)*k*C; 3*O*O. Backward takes twice that.
"""

from __future__ import annotations

from math import prod
from typing import Any

from torch import nn

from opbench.operators.common.clamped.cost import core_macs
from opbench.schema import Cost, Dims


def parameters(inc: int, ouc: int, k: int, fuse: bool = True) -> int:
    """All that are trained."""
    snake = 18 * k * inc + 6 * k + k * inc * ouc + 3 * ouc
    return k * k * inc * ouc + 2 * ouc + 2 * snake + fuse * (3 * ouc * ouc + 2 * ouc)


def macs(inc: int, ouc: int, k: int, pixels: int, fuse: bool = True) -> int:
    """Of so many pixels."""
    layers = k * k * inc * ouc + 2 * 18 * k * inc + fuse * 3 * ouc * ouc
    return layers * pixels + 2 * core_macs(inc, ouc, k * pixels)


def module_cost(dims: Dims) -> Cost:
    """At as many channels out as in."""
    C, k, pixels = dims["C"], dims["k"], dims["N"] * dims["H"] * dims["W"]
    params, forward = parameters(C, C, k), macs(C, C, k, pixels)
    return Cost(params=params, macs=forward, macs_backward=2 * forward, elements=2 * C * pixels + params)


def layer(module: Any, x: tuple[int, ...], out: tuple[int, ...]) -> tuple[int, int]:
    """Parameters and MACs of a module of these shapes in and out."""
    fuse = not isinstance(module.conv_1x1, nn.Identity)
    inc, ouc, k = x[1], out[1] // (1 if fuse else 3), module.conv_x.kernel_size
    return parameters(inc, ouc, k, fuse), macs(inc, ouc, k, prod(x) // inc, fuse)
