"""FPN (arXiv 1612.03144) and FPN-CARAFE (arXiv 1905.02188, section 4): ResNet-50's stages to a pyramid of 256 channels.

    c2..c5 (N, 256 | 512 | 1024 | 2048, H/4..H/32, W/4..W/32) -> p2..p5 (N, 256, H/4..H/32, W/4..W/32)

Each stage passes a 1x1 convolution; from the top down each map is upsampled by two and added to the one below; a 3x3
convolution follows on every level. CARAFE takes the place of nearest interpolation, at its paper's settings: k_up 5,
k_enc 3, 64 compressed channels. Further levels (P6 by subsampling) have no parameters and are left out.

State-dict keys are those of mmdetection's FPN and FPN_CARAFE necks without norm (`lateral_convs.0.conv.weight`,
`fpn_convs.0.conv.weight`, `upsample_modules.0.channel_compressor.weight`), under "neck." in their checkpoints.
mmdetection's FPN_CARAFE holds convolutions for P6 as well; load its checkpoints with strict=False.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict

import torch
from torch import Tensor, nn

from opbench.operators.carafe import CARAFE
from opbench.operators.common.choice import Core

RESNET50 = (256, 512, 1024, 2048)
OUT_CHANNELS = 256


def _conv(c_in: int, c_out: int, kernel_size: int) -> nn.Sequential:
    """A convolution with bias under the key "conv", where mmdetection has it."""
    layer = nn.Conv2d(c_in, c_out, kernel_size, padding=kernel_size // 2)
    nn.init.xavier_uniform_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return nn.Sequential(OrderedDict[str, nn.Module](conv=layer))


class FPN(nn.Module):
    """c2..c5 -> (p2, p3, p4, p5); each stage is half the size of the one before.

    `carafe` upsamples by content-aware reassembly, else nearest; `implementation` as in CARAFE.
    """

    def __init__(
        self,
        in_channels: tuple[int, ...] = RESNET50,
        out_channels: int = OUT_CHANNELS,
        *,
        carafe: bool = False,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.lateral_convs = nn.ModuleList(_conv(channels, out_channels, 1) for channels in in_channels)
        self.fpn_convs = nn.ModuleList(_conv(out_channels, out_channels, 3) for _ in in_channels)
        self.upsample_modules = nn.ModuleList(
            CARAFE(out_channels, implementation=implementation) if carafe else nn.Upsample(scale_factor=2)
            for _ in in_channels[1:]
        )

    def forward(self, *stages: Tensor) -> tuple[Tensor, ...]:
        """Finest first, in and out. Raises ValueError for stages of other channels, or sizes that are no halves."""
        self._check(stages)
        laterals = [conv(stage) for conv, stage in zip(self.lateral_convs, stages, strict=True)]
        for level in range(len(laterals) - 1, 0, -1):
            laterals[level - 1] = laterals[level - 1] + self.upsample_modules[level - 1](laterals[level])
        return tuple(conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals, strict=True))

    def _check(self, stages: tuple[Tensor, ...]) -> None:
        got = [tuple(stage.shape) for stage in stages]
        if tuple(shape[1] for shape in got) != self.in_channels:
            raise ValueError(f"FPN: expected stages of {self.in_channels} channels, got shapes {got}")
        for fine, coarse in itertools.pairwise(got):
            if (fine[2], fine[3]) != (2 * coarse[2], 2 * coarse[3]):
                raise ValueError(
                    f"FPN: expected each stage to be half the size of the one before, got shapes {got}; "
                    f"pad the image to multiples of 32"
                )


def pyramid(levels: tuple[Tensor, ...]) -> Tensor:
    """Levels (N, C, h, w) as one tensor (N, C, sum of h*w), finest first."""
    return torch.cat([level.flatten(2) for level in levels], 2)
