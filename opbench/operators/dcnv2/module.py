"""DCNv2 as a layer, channels first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opbench.operators.common.arguments import check_image
from opbench.operators.common.choice import Core
from opbench.operators.dcnv2.cores import CORES


class DCNv2(nn.Module):
    """x (N, C, H, W) -> (N, O, Ho, Wo): modulated deformable convolution, without bias.

    A convolution of the same geometry (`conv_offset`, with bias) predicts, for each of G groups of input channels and
    K = k*k points in rows, 2K offsets (y, x) and K mask logits; the mask is their sigmoid. It starts at zero, so that
    a fresh module is half a convolution. Channels of its output: all offsets first, then all logits, as in the
    packs of mmcv and Detectron2. `implementation` is a name from `CORES`, "auto" or a callable.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        pad: int = 1,
        dilation: int = 1,
        group: int = 1,
        *,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        if in_channels % group:
            raise ValueError(f"in_channels: expected a multiple of group, got {in_channels} channels, {group} groups")
        self.settings = {"stride": stride, "pad": pad, "dilation": dilation, "group": group}
        self.points = group * kernel_size**2
        self.implementation = implementation
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.conv_offset = nn.Conv2d(in_channels, 3 * self.points, kernel_size, stride, pad, dilation)
        bound = (in_channels * kernel_size**2) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.zeros_(self.conv_offset.weight)
        assert self.conv_offset.bias is not None
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, O, Ho, Wo). Raises ValueError for another number of channels or axes."""
        check_image("DCNv2", x, self.weight.shape[1])
        offset, logits = self.conv_offset(x).split((2 * self.points, self.points), 1)
        core = CORES.choose(self.implementation, x.device.type)
        return core(x, offset, logits.sigmoid(), self.weight, **self.settings)
