"""What LDConv costs, at any of its arguments.

Parameters, of P samples: 2P*(9C + 1) of the offsets' convolution, P*C*O of the samples', 2O of the norm (and O with
bias). MACs of an output pixel: 18*P*C and, of the core, (4 + O)*P*C. Backward takes twice that.
"""

from __future__ import annotations

from math import prod
from typing import Any

from opbench.operators.common.clamped.cost import core_macs
from opbench.schema import Cost, Dims


def parameters(inc: int, outc: int, points: int, bias: bool = False) -> int:
    """All that are trained."""
    return 2 * points * (9 * inc + 1) + points * inc * outc + (3 if bias else 2) * outc


def macs(inc: int, outc: int, points: int, pixels: int) -> int:
    """Of so many output pixels."""
    return 18 * points * inc * pixels + core_macs(inc, outc, points * pixels)


def module_cost(dims: Dims) -> Cost:
    """At as many channels out as in; the slot's stride is that of its dimensions, 1 where it has none."""
    C, P, stride = dims["C"], dims["num_param"], dims.get("stride", 1)
    pixels_in = dims["N"] * dims["H"] * dims["W"]
    pixels = dims["N"] * -(-dims["H"] // stride) * -(-dims["W"] // stride)
    params, forward = parameters(C, C, P), macs(C, C, P, pixels)
    return Cost(params=params, macs=forward, macs_backward=2 * forward, elements=C * (pixels_in + pixels) + params)


def layer(module: Any, x: tuple[int, ...], out: tuple[int, ...]) -> tuple[int, int]:
    """Parameters and MACs of a module of these shapes in and out."""
    inc, outc, points = x[1], out[1], module.num_param
    bias = module.conv[0].bias is not None
    return parameters(inc, outc, points, bias), macs(inc, outc, points, prod(out) // outc)
