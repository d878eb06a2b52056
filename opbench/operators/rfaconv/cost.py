"""What RFAConv costs, in closed form.

Per output pixel, with K = k*k taps: the grouped convolutions K*C (attention) and K*K*C (features), the contraction
K*C*O. Batch norms, softmax and the product of both are elementwise. Backward takes twice the forward's MACs.
"""

from __future__ import annotations

from typing import Any

from opbench.schema import Cost, Dims

Shape = tuple[int, ...]


def weights(channels: int, outputs: int, taps: int) -> int:
    """KC + K^2 C + KCO: the MACs of one output pixel, and the parameters without biases and norms."""
    return taps * channels * (1 + taps + outputs)


def parameters(channels: int, outputs: int, taps: int, *, norm: bool) -> int:
    """With 2KC of the features' batch norm, O biases and, where one follows, 2O of the last batch norm."""
    return weights(channels, outputs, taps) + 2 * taps * channels + outputs + 2 * outputs * norm


def module_cost(dims: Dims, stride: int = 1) -> Cost:
    """9C^2 + 111C parameters; 9C^2 + 90C MACs an output pixel."""
    C, N = dims["C"], dims["N"]
    given = N * dims["H"] * dims["W"]
    pixels = N * ((dims["H"] - 1) // stride + 1) * ((dims["W"] - 1) // stride + 1)
    params, macs = parameters(C, C, 9, norm=True), weights(C, C, 9) * pixels
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=C * (given + pixels) + params)


def layer(module: Any, x: Shape, out: Shape) -> tuple[int, int]:
    """Parameters and MACs of one at any of its arguments."""
    sizes = module.in_channel, module.out_channel, module.kernel_size**2
    return parameters(*sizes, norm=module.norm), weights(*sizes) * out[0] * out[2] * out[3]
