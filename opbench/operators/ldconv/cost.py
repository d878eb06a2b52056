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
    """In the slot conv3x3: as many channels out as in."""
    return _cost(dims, dims["C"], 1)


def downsampling_cost(dims: Dims) -> Cost:
    """In the slot downsample2x: O channels out, of half the height and width."""
    return _cost(dims, dims["O"], 2)


def _cost(dims: Dims, outputs: int, stride: int) -> Cost:
    N, C, H, W, P = (dims[name] for name in ("N", "C", "H", "W", "num_param"))
    pixels = N * -(-H // stride) * -(-W // stride)
    params, forward = parameters(C, outputs, P), macs(C, outputs, P, pixels)
    elements = N * C * H * W + outputs * pixels + params
    return Cost(params=params, macs=forward, macs_backward=2 * forward, elements=elements)


def layer(module: Any, x: tuple[int, ...], out: tuple[int, ...]) -> tuple[int, int]:
    """Parameters and MACs of a module of these shapes in and out."""
    inc, outc, points = x[1], out[1], module.num_param
    bias = module.conv[0].bias is not None
    return parameters(inc, outc, points, bias), macs(inc, outc, points, prod(out) // outc)
