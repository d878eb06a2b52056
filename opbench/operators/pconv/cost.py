"""What a partial convolution costs, in closed form: 9 P^2 parameters and MACs a pixel, P the channels that it takes."""

from __future__ import annotations

from typing import Any

from opbench.schema import Cost, Dims

Shape = tuple[int, ...]


def module_cost(dims: Dims) -> Cost:
    """9 (C // n_div)^2 parameters, and as many MACs a pixel; backward twice that. Every channel is read and written."""
    pixels = dims["N"] * dims["H"] * dims["W"]
    params = 9 * (dims["C"] // dims["n_div"]) ** 2
    macs = params * pixels
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=2 * dims["C"] * pixels + params)


def layer(module: Any, x: Shape, out: Shape) -> tuple[int, int]:
    """Parameters and MACs of one at any of its arguments."""
    params = 9 * module.dim_conv3**2
    return params, params * out[0] * out[2] * out[3]
