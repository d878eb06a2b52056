"""What CARAFE costs: closed forms, and the reassembly as one operation that only counts."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from opbench.operators.common.counting import counting, formulas, of_all, of_each, zero_core
from opbench.schema import Cost, Dims


def _shape(x: Tensor, mask: Tensor, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    N, C, H, W = x.shape
    return x.new_empty(N, C, scale_factor * H, scale_factor * W)


COUNTING = counting(
    zero_core("carafe_core(Tensor x, Tensor mask, int kernel_size, int group_size, int scale_factor)", _shape)
)


def _macs(arguments: Sequence[Any]) -> int:
    """s*s*k*k*C*N*H*W of (x, mask, kernel_size, group_size, scale_factor), tensors given as shapes.

    Between the inputs and the options of a backward call may stand what forward kept.
    """
    x, _, *_, kernel_size, _, scale_factor = arguments
    return int(prod(x) * scale_factor**2 * kernel_size**2)


FORMULAS = {
    **formulas(_macs, of_all(_macs), "carafe_core"),
    # The softmax of logits is elementwise, which is reported apart.
    **formulas(_macs, of_each(_macs), "carafe_cpu", "carafe_cpu_logits"),
    **formulas(_macs, of_each(_macs), "carafe_triton", "carafe_triton_logits"),
}

# The scale factor of the modules in the task `upsample2x`.
SCALE = 2


def core_counts(dims: Dims) -> dict[str, int]:
    """How many products one element of the reassembly, and of its gradients, sums."""
    taps, children = dims["k"] ** 2, dims["s"] ** 2
    return {"output": taps, "x": taps * children, "mask": dims["C"] // dims["g"]}


def core_cost(dims: Dims) -> Cost:
    """The reassembly alone: k*k MACs per output element; backward twice that. Every tensor once."""
    pixels, C, taps, children = dims["N"] * dims["H"] * dims["W"], dims["C"], dims["k"] ** 2, dims["s"] ** 2
    macs = pixels * children * taps * C
    elements = pixels * ((1 + children) * C + children * taps * dims["g"])
    return Cost(params=0, macs=macs, macs_backward=2 * macs, elements=elements)


def _module_cost(dims: Dims, extra_params: int) -> Cost:
    """Both modules multiply alike; `extra_params` are the biases of one, the normalisations of the other."""
    pixels, C, c_mid = dims["N"] * dims["H"] * dims["W"], dims["C"], dims["c_mid"]
    taps = SCALE**2 * dims["k_up"] ** 2
    weights = C * c_mid + dims["k_enc"] ** 2 * c_mid * taps * dims.get("g", 1)
    macs = pixels * (weights + taps * C)
    params = weights + extra_params
    elements = pixels * (1 + SCALE**2) * C + params
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=elements)


def _encoded(dims: Dims) -> int:
    return int(SCALE**2 * dims["k_up"] ** 2 * dims.get("g", 1))


def paper_cost(dims: Dims) -> Cost:
    """The paper's module, whose two convolutions have biases."""
    return _module_cost(dims, extra_params=dims["c_mid"] + _encoded(dims))


def yolo_cost(dims: Dims) -> Cost:
    """The write-up's module, whose two convolutions have a batch norm each."""
    return _module_cost(dims, extra_params=2 * (dims["c_mid"] + _encoded(dims)))


Shape = tuple[int, ...]


def paper_layer(layer: Any, x: Shape, out: Shape) -> tuple[int, int]:
    """C Cm + Cm + (ke^2 Cm + 1) s^2 k^2 g parameters; C Cm + ke^2 Cm s^2 k^2 g + s^2 k^2 C MACs an input pixel."""
    C, mid, window = layer.channels, layer.compressed_channels, layer.encoder_kernel**2
    taps = layer.scale_factor**2 * layer.up_kernel**2
    weights = C * mid + window * mid * taps * layer.up_group
    return weights + mid + taps * layer.up_group, (weights + taps * C) * x[0] * x[2] * x[3]


def yolo_layer(layer: Any, x: Shape, out: Shape) -> tuple[int, int]:
    """As the paper's with one group; two parameters of batch norm for each bias."""
    C, mid, window = layer.c, layer.comp.conv.out_channels, prod(layer.enc.conv.kernel_size)
    taps = layer.scale**2 * layer.k_up**2
    weights = C * mid + window * mid * taps
    return weights + 2 * (mid + taps), (weights + taps * C) * x[0] * x[2] * x[3]
