"""What GSConv costs, in closed form; K = k*k taps, P = c2 / 2 channels.

Per output pixel: K*c1*P / g of the convolution and 25*P of the depthwise one. Norms, activations and the shuffle are
elementwise. Backward takes twice the forward's MACs.
"""

from __future__ import annotations

from typing import Any

from opbench.schema import Cost, Dims

Shape = tuple[int, ...]


def weights(channels: int, half: int, taps: int) -> int:
    """Of both convolutions: parameters, and MACs an output pixel. `channels` are those of a group."""
    return (taps * channels + 25) * half


def module_cost(dims: Dims) -> Cost:
    """4.5 C^2 + 14.5 C parameters; 4.5 C^2 + 12.5 C MACs a pixel."""
    C, pixels = dims["C"], dims["N"] * dims["H"] * dims["W"]
    found = weights(C, C // 2, 9)
    params, macs = found + 2 * C, found * pixels
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=2 * C * pixels + params)


def layer(module: Any, x: Shape, out: Shape) -> tuple[int, int]:
    """Parameters and MACs of one at any of its arguments; an activation that has parameters counts them."""
    convolution = module.cv1.conv
    found = weights(convolution.in_channels // convolution.groups, out[1] // 2, convolution.kernel_size[0] ** 2)
    own = sum(value.numel() for part in (module.cv1.act, module.cv2.act) for value in part.parameters())
    return found + 2 * out[1] + own, found * out[0] * out[2] * out[3]


# --- The block around it ---------------------------------------------------------------------------------------------


def block_weights(c1: int, c2: int, inside: int, n: int) -> tuple[int, int]:
    """Of VoVGSCSP: weights, each used once for a pixel, and parameters of its norms."""
    half = inside // 2
    bottleneck = weights(inside, half, 1) + weights(inside, half, 9) + inside**2
    return 2 * c1 * inside + n * bottleneck + 2 * inside * c2, 2 * (2 * inside + c2) + n * 6 * inside


def block_cost(dims: Dims) -> Cost:
    """With P = C/2 inside: 4CP + n (6P^2 + 25P) MACs a pixel; 4P + 2C + 6nP parameters more."""
    C, pixels = dims["C"], dims["N"] * dims["H"] * dims["W"]
    found, norms = block_weights(C, C, C // 2, dims["n"])
    params, macs = found + norms, found * pixels
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=2 * C * pixels + params)


def block_layer(module: Any, x: Shape, out: Shape) -> tuple[int, int]:
    """Parameters and MACs of one at any of its arguments, of activations without parameters."""
    found, norms = block_weights(module.c1, out[1], module.cv1.conv.out_channels, len(module.gsb))
    return found + norms, found * out[0] * out[2] * out[3]
