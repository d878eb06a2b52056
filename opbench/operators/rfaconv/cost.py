"""What RFAConv costs, in closed form.

Per output pixel, with K = k*k taps: the grouped convolutions K*C (attention) and K*K*C (features), the contraction
K*C*O. Batch norms, softmax and the product of both are elementwise. Backward takes twice the forward's MACs.
"""

from __future__ import annotations

from typing import Any

from opbench.schema import Cost, Dims
from opbench.tasks import halved

Shape = tuple[int, ...]


def weights(channels: int, outputs: int, taps: int) -> int:
    """KC + K^2 C + KCO: the MACs of one output pixel, and the parameters without biases and norms."""
    return taps * channels * (1 + taps + outputs)


def parameters(channels: int, outputs: int, taps: int, *, norm: bool) -> int:
    """With 2KC of the features' batch norm, O biases and, where one follows, 2O of the last batch norm."""
    return weights(channels, outputs, taps) + 2 * taps * channels + outputs + 2 * outputs * norm


def _cost(outputs: int, dims: Dims, height: int, width: int) -> Cost:
    C, N = dims["C"], dims["N"]
    given, pixels = N * dims["H"] * dims["W"], N * height * width
    params, macs = parameters(C, outputs, 9, norm=True), weights(C, outputs, 9) * pixels
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=C * given + outputs * pixels + params)


def module_cost(dims: Dims) -> Cost:
    """9C^2 + 111C parameters; 9C^2 + 90C MACs a pixel."""
    return _cost(dims["C"], dims, dims["H"], dims["W"])


def halving_cost(dims: Dims) -> Cost:
    """9CO + 108C + 3O parameters; 9CO + 90C MACs an output pixel, of which there are a quarter."""
    return _cost(dims["O"], dims, *halved(dims))


def layer(module: Any, x: Shape, out: Shape) -> tuple[int, int]:
    """Parameters and MACs of one at any of its arguments."""
    sizes = module.in_channel, module.out_channel, module.kernel_size**2
    return parameters(*sizes, norm=module.norm), weights(*sizes) * out[0] * out[2] * out[3]
