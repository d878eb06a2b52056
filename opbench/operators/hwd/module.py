"""Haar wavelet downsampling as a layer, channels first."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opbench.operators.common.arguments import check_centred, check_image, check_whole
from opbench.operators.common.choice import Core
from opbench.operators.hwd.cores import CORES


class HaarFilters(nn.Module):
    """The filters of the transform, as constants under the names that the published module's have."""

    h0_col: Tensor
    h0_row: Tensor

    def __init__(self) -> None:
        super().__init__()
        half = 0.5**0.5
        for name, filter_ in (("h0", (half, half)), ("h1", (half, -half))):
            self.register_buffer(f"{name}_col", torch.tensor(filter_).view(1, 1, 2, 1))
            self.register_buffer(f"{name}_row", torch.tensor(filter_).view(1, 1, 1, 2))

    def scale(self) -> Tensor:
        """What every sum of a block is multiplied by: a half, as far as the filters' dtype has it."""
        return self.h0_col.flatten()[0] * self.h0_row.flatten()[0]


class HWD(nn.Module):
    """x (N, in_ch, H, W) -> (N, out_ch, ceil(H/2), ceil(W/2)): the Haar wavelet transform, then a 1x1 convolution.

    Of every 2 x 2 block of pixels the transform keeps its sum and its differences down, across and over the diagonal,
    each halved: four bands, every one with all channels, in this order. A convolution with bias, batch norm and ReLU
    follow, unless `block` is False: then a convolution without bias, for a place with a norm behind it. An odd side is
    extended by zeros, as published. `k` is the convolution's kernel, 1 as published; forks paste others.

    Source: "Haar wavelet downsampling", Xu et al., Pattern Recognition 2023, doi 10.1016/j.patcog.2023.109819, and
    `Down_wt` of apple1986/HWD, whose argument order and state-dict keys these are. There the transform is that of the
    package pytorch_wavelets; the bands that the code names HL and LH are the differences down and across. The transform
    is linear and no longer than the convolution behind it, so that HWD is one convolution of 2 x 2 pixels and stride 2,
    with other weights; only training may tell the difference.

    `implementation` is "bands", "folded", "auto" or a callable of (x, weight, scale). Raises ValueError for an even k,
    for sizes that are no sizes, and at a call for other channels.
    """

    def __init__(
        self,
        in_ch: int,
        out_ch: int,
        *,
        k: int = 1,
        block: bool = True,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        check_whole("HWD", in_ch=in_ch, out_ch=out_ch)
        check_centred("HWD", k=k)
        self.in_ch = in_ch
        self.block = block
        self.implementation = implementation
        self.wt = HaarFilters()
        convolution = nn.Conv2d(4 * in_ch, out_ch, k, padding=k // 2, bias=block)
        if block:
            self.conv_bn_relu = nn.Sequential(convolution, nn.BatchNorm2d(out_ch), nn.ReLU())
        else:
            self.conv = convolution

    def forward(self, x: Tensor) -> Tensor:
        """`x` (N, in_ch, H, W) -> (N, out_ch, ceil(H/2), ceil(W/2))."""
        check_image("HWD", x, self.in_ch)
        # A trace is of even sizes: what depends on the size would be fixed in it.
        if not torch.jit.is_tracing() and (x.shape[2] % 2 or x.shape[3] % 2):  # type: ignore[attr-defined, no-untyped-call]
            x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        convolution, *behind = self.conv_bn_relu if self.block else (self.conv,)
        assert isinstance(convolution, nn.Conv2d)
        core = CORES.choose(self.implementation, x.device.type)
        out = core(x, convolution.weight, self.wt.scale())
        if convolution.bias is not None:
            out = out + convolution.bias.to(out.dtype).view(-1, 1, 1)
        for layer in behind:
            out = layer(out)
        return out
