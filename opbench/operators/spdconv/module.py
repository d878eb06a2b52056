"""SPDConv as a layer, channels first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opbench.operators.common.arguments import check_image
from opbench.operators.common.block import NormedConv
from opbench.operators.common.choice import Core
from opbench.operators.spdconv.cores import CORES


class SpaceToDepth(nn.Module):
    """x (N, C, H, W), H and W even -> (N, 4C, H/2, W/2): the rearrangement of SPDConv by itself, without a parameter.

    `space_to_depth` of LabSAINT/SPD-Conv, whose YOLOv5 puts it between a convolution of stride 1 and the next block.
    The order of the slices is that of `SPDConv`. Raises ValueError for a `dimension` other than 1 and for odd sizes.
    """

    # As a line in ultralytics' YAML it makes so many times the channels that it reads.
    channels_times = 4

    def __init__(self, dimension: int = 1) -> None:
        super().__init__()
        if dimension != 1:
            raise ValueError(f"dimension: the slices are joined as channels, expected 1, got {dimension}")
        self.d = dimension

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, 4C, H/2, W/2)."""
        if x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(f"x: expected an even height and width, got {x.shape[2]} x {x.shape[3]} pixels")
        return torch.cat((x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]), 1)


class SPDConv(nn.Module):
    """x (N, inc, H, W), H and W even -> (N, ouc, H/2, W/2): space to depth, then a convolution without stride.

    Four slices of the image stand side by side as channels, in the order (even rows, even columns), (odd, even),
    (even, odd), (odd, odd): columns change last. `torch.nn.PixelUnshuffle` has another order of channels, so that
    weights of one don't fit the other. A k x k convolution without bias follows and, unless `block` is False, batch
    norm and SiLU, as in the class that YOLO forks paste, whose arguments come first. State-dict keys are its own:
    `conv.conv.weight` and `conv.bn.*`; without the block `conv.weight`. k is 3 in most copies, 1 in others.

    `implementation` is "slices", "strided", "auto" or a callable. Source: Sunkara and Luo, "No More Strided
    Convolutions or Pooling", arXiv 2208.03641, section 3, and LabSAINT/SPD-Conv. In that repository's YOLOv5 the
    rearrangement stands between a convolution of stride 1 and the next block; the pasted class joins it with the
    convolution behind it, as the paper describes.

    Raises ValueError for an even k, a `dimension` other than 1, and at a call for odd sizes or other channels.
    """

    def __init__(
        self,
        inc: int,
        ouc: int,
        dimension: int = 1,
        *,
        k: int = 3,
        block: bool = True,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        if dimension != 1:
            raise ValueError(f"dimension: the slices are joined as channels, expected 1, got {dimension}")
        if k < 1 or k % 2 == 0:
            raise ValueError(f"k: expected an odd kernel size such as 1 or 3, got {k}: an even one changes the size")
        self.d = dimension
        self.block = block
        self.implementation = implementation
        self.conv: nn.Module = (
            NormedConv(4 * inc, ouc, k) if block else nn.Conv2d(4 * inc, ouc, k, padding=k // 2, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (N, inc, H, W) -> (N, ouc, H/2, W/2)."""
        convolution = self.conv.conv if isinstance(self.conv, NormedConv) else self.conv
        assert isinstance(convolution, nn.Conv2d)
        check_image("SPDConv", x, convolution.in_channels // 4)
        if x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(
                f"x: expected an even height and width, got {x.shape[2]} x {x.shape[3]} pixels: pad the image by a "
                f"row or column, or give the network a size that stays even down to here"
            )
        core = CORES.choose(self.implementation, x.device.type)
        out = core(x, convolution.weight)
        if isinstance(self.conv, NormedConv):
            out = self.conv.act(self.conv.bn(out))
        return out
