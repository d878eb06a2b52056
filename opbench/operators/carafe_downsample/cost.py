"""What CARAFE++'s downsampling costs: the closed form, and its core as one operation that computes nothing.

Per output pixel, of s*s input pixels and k*k taps: s*s*C*Cm of the compressor, ke*ke*Cm*g*k*k of the encoder, k*k*C of
the reassembly, C*O of the 1x1 convolution behind it where the channels change. Backward takes twice the MACs.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from opbench.operators.common.counting import counting, formulas, of_each, zero_core
from opbench.schema import Cost, Dims
from opbench.tasks import halved

SCALE = 2  # of the task `downsample2x`
Shape = tuple[int, ...]


def _shape(x: Tensor, mask: Tensor, kernel_size: int, group_size: int, stride: int) -> Tensor:
    return x.new_empty(*x.shape[:2], *mask.shape[2:])


COUNTING = counting(
    zero_core("carafe_downsample_core(Tensor x, Tensor mask, int kernel_size, int group_size, int stride)", _shape)
)


def _macs(arguments: Sequence[Any]) -> int:
    x, mask, kernel_size, *_ = arguments
    return int(prod(x[:2]) * prod(mask[2:]) * kernel_size**2)


FORMULAS = formulas(_macs, of_each(_macs), "carafe_downsample_core")


class _Sizes:
    """What a module is made of, and the products that it takes."""

    def __init__(self, C: int, outputs: int, mid: int, encoder: int, masks: int, taps: int) -> None:
        self.compressor, self.encoder = C * mid, encoder**2 * mid * masks
        self.project = C * outputs if outputs != C else 0
        self.biases, self.core = mid + masks, taps * C

    @property
    def params(self) -> int:
        return self.compressor + self.encoder + self.biases + self.project

    def macs(self, pixels_in: int, pixels_out: int) -> int:
        return self.compressor * pixels_in + (self.encoder + self.core + self.project) * pixels_out


def module_cost(dims: Dims) -> Cost:
    """C Cm + Cm + (ke^2 Cm + 1) g k^2 parameters, and C O where the channels change."""
    taps = dims["k_down"] ** 2
    sizes = _Sizes(dims["C"], dims["O"], dims["c_mid"], dims["k_enc"], taps * dims["g"], taps)
    height, width = halved(dims)
    pixels_in, pixels_out = dims["N"] * dims["H"] * dims["W"], dims["N"] * height * width
    macs = sizes.macs(pixels_in, pixels_out)
    elements = dims["C"] * pixels_in + dims["O"] * pixels_out + sizes.params
    return Cost(params=sizes.params, macs=macs, macs_backward=2 * macs, elements=elements)


def layer(module: Any, x: Shape, out: Shape) -> tuple[int, int]:
    """Parameters and MACs of one at any of its arguments."""
    taps = module.down_kernel**2
    masks = taps * module.down_group
    sizes = _Sizes(x[1], out[1], module.compressed_channels, module.encoder_kernel, masks, taps)
    return sizes.params, sizes.macs(x[0] * x[2] * x[3], out[0] * out[2] * out[3])
