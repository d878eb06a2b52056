"""What ODConv costs, in closed form; A hidden channels of the attention, K kernels, k*k taps.

An image costs A*(2C + O + k*k + K) MACs of attention and K multiply-adds for each weight of its own kernel; a pixel
costs a convolution's. Products with attention are elementwise. Backward takes twice the forward's MACs.
"""

from __future__ import annotations

from typing import Any

from opbench.operators.odconv.module import hidden_channels
from opbench.schema import Cost, Dims

Shape = tuple[int, ...]
# The defaults of the published module.
REDUCTION, KERNELS = 0.0625, 4


def module_cost(dims: Dims) -> Cost:
    """36C^2 + A(3C + 13) + 2C + 2A + 13 parameters; 9C^2 MACs a pixel and 36C^2 + A(3C + 13) an image."""
    C, images = dims["C"], dims["N"]
    A, pixels = hidden_channels(C, REDUCTION), images * dims["H"] * dims["W"]
    own, attention = 9 * C * C, A * (3 * C + 9 + KERNELS)
    params = KERNELS * own + attention + 2 * A + 2 * C + 9 + KERNELS
    macs = own * pixels + images * (KERNELS * own + attention)
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=2 * C * pixels + params)


def layer(module: Any, x: Shape, out: Shape) -> tuple[int, int]:
    """Parameters and MACs of one at any of its arguments."""
    own = module.out_planes * (module.in_planes // module.groups) * module.kernel_size**2
    attention = module.attention
    branches = (attention.channel_fc, attention.filter_fc, attention.spatial_fc, attention.kernel_fc)
    widths = [attention.fc.in_channels, *(one.out_channels for one in branches if one is not None)]
    A = attention.fc.out_channels
    params = module.kernel_num * own + A * sum(widths) + 2 * A + sum(widths[1:])
    return params, own * out[0] * out[2] * out[3] + x[0] * (module.kernel_num * own + A * sum(widths))
