"""InternImage T, S and B (arXiv 2211.05778), built from `opbench.operators.dcnv3.DCNv3`; channels last inside.

Four hyper-parameters make a network (section 3.3 of the paper): C1, C', L1, L3. Stage i has C_i = 2^(i-1) C1 channels
in G_i = C_i / C' groups; stages 1, 2 and 4 have L1 blocks and stage 3 has L3 >= L1 (pattern AABA). A block is DCNv3
and a feed-forward network, each with LayerNorm and a residual; T normalises before them and at the end of a stage,
S and B after them (post-norm) and scale what they add by a learnt factor (layer scale, 1e-5 at the start). Stem: two
3x3 convolutions of stride 2. Between stages: a 3x3 convolution of stride 2. Head: 1x1 convolution to 1.5 times the
channels, batch norm, GELU, mean over the image, linear.

Names and shapes of the state dict are those of the official classification checkpoints
(`internimage_t_1k_224.pth` and so on, under their key "model"), so these load. Stochastic depth, a regulariser with no
parameters, is left out: every block always runs, as in inference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opbench.errors import nearest
from opbench.operators.common.choice import Core
from opbench.operators.dcnv3 import DCNv3
from opbench.operators.dcnv3.module import ChannelsLast

EPSILON = 1e-6  # of every LayerNorm
MLP_RATIO = 4
HEAD_RATIO = 1.5

# mixing(channels, group) -> the spatial mixing of a block, channels last: DCNv3 or what stands in for it
Mixing = Callable[[int, int], nn.Module]


@dataclass(frozen=True)
class Variant:
    """C1, C' (channels of a group), L1 and L3 of table 1, and what the official configurations add to them."""

    channels: int
    group_channels: int
    depth: int
    third_depth: int
    post_norm: bool
    layer_scale: float | None

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """C_i = 2^(i-1) C1."""
        return tuple(self.channels * 2**stage for stage in range(4))

    @property
    def stage_groups(self) -> tuple[int, ...]:
        """G_i = C_i / C'."""
        return tuple(channels // self.group_channels for channels in self.stage_channels)

    @property
    def stage_depths(self) -> tuple[int, ...]:
        """AABA."""
        return (self.depth, self.depth, self.third_depth, self.depth)


# Table 1 of the paper; post-norm and layer scale: classification/configs of OpenGVLab/InternImage.
VARIANTS: Mapping[str, Variant] = {
    "T": Variant(64, 16, 4, 18, post_norm=False, layer_scale=None),
    "S": Variant(80, 16, 4, 21, post_norm=True, layer_scale=1e-5),
    "B": Variant(112, 16, 4, 21, post_norm=True, layer_scale=1e-5),
}


class ChannelsFirst(nn.Module):
    """(N, H, W, C) -> (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """A view."""
        return x.permute(0, 3, 1, 2)


# The positions inside are part of the official state-dict keys: norm1.0 in a block, norm.1 after a convolution.
def _norm(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(channels, eps=EPSILON))


def _norm_after_convolution(channels: int) -> nn.Sequential:
    """(N, C, H, W) -> (N, H, W, C), normalised."""
    return nn.Sequential(ChannelsLast(), nn.LayerNorm(channels, eps=EPSILON))


class Stem(nn.Module):
    """x (N, 3, H, W) -> (N, H/4, W/4, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels // 2, 3, stride=2, padding=1)
        self.norm1 = nn.Sequential(*_norm_after_convolution(channels // 2), ChannelsFirst())
        self.conv2 = nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1)
        self.norm2 = _norm_after_convolution(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Channels last out."""
        out: Tensor = self.norm2(self.conv2(F.gelu(self.norm1(self.conv1(x)))))
        return out


class Downsample(nn.Module):
    """x (N, H, W, C) -> (N, H/2, W/2, 2C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm = _norm_after_convolution(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """Channels last in and out."""
        out: Tensor = self.norm(self.conv(x.permute(0, 3, 1, 2)))
        return out


class FeedForward(nn.Module):
    """x (..., C) -> (..., C): linear to 4C, GELU, linear back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, MLP_RATIO * channels)
        self.fc2 = nn.Linear(MLP_RATIO * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Each pixel by itself."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """x (N, H, W, C) -> (N, H, W, C): x + mixing, then + feed-forward, normalised before or (post-norm) after each."""

    def __init__(
        self, channels: int, group: int, mixing: Mixing, *, post_norm: bool, layer_scale: float | None
    ) -> None:
        super().__init__()
        self.post_norm = post_norm
        self.norm1 = _norm(channels)
        self.dcn = mixing(channels, group)
        self.norm2 = _norm(channels)
        self.mlp = FeedForward(channels)
        self.layer_scale = layer_scale is not None
        if layer_scale is not None:
            self.gamma1 = nn.Parameter(torch.full((channels,), layer_scale))
            self.gamma2 = nn.Parameter(torch.full((channels,), layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        """Channels last in and out."""
        x = x + self._branch(x, self.dcn, self.norm1, "gamma1")
        return x + self._branch(x, self.mlp, self.norm2, "gamma2")

    def _branch(self, x: Tensor, layer: nn.Module, norm: nn.Module, scale: str) -> Tensor:
        out: Tensor = norm(layer(x)) if self.post_norm else layer(norm(x))
        return getattr(self, scale) * out if self.layer_scale else out


class Stage(nn.Module):
    """x (N, H, W, C) -> (N, H/2, W/2, 2C), or (N, H, W, C) for the last: blocks, a norm (pre-norm), downsampling."""

    def __init__(
        self,
        channels: int,
        group: int,
        depth: int,
        mixing: Mixing,
        *,
        post_norm: bool,
        layer_scale: float | None,
        downsample: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(Block(channels, group, mixing, post_norm=post_norm, layer_scale=layer_scale) for _ in range(depth))
        )
        self.norm = nn.Identity() if post_norm else _norm(channels)
        self.downsample = Downsample(channels) if downsample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Channels last in and out."""
        out: Tensor = self.downsample(self.norm(self.blocks(x)))
        return out


class InternImage(nn.Module):
    """x (N, 3, H, W) -> logits (N, num_classes); H and W multiples of 32.

    `mixing` replaces DCNv3 in every block (`RigidMixing` is the control); `implementation` as in DCNv3.
    """

    def __init__(
        self,
        variant: Variant,
        num_classes: int = 1000,
        *,
        mixing: Mixing | None = None,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        mixing = mixing or (lambda channels, group: DCNv3(channels, group=group, implementation=implementation))
        self.patch_embed = Stem(variant.channels)
        self.levels = nn.Sequential(
            *(
                Stage(
                    channels,
                    group,
                    depth,
                    mixing,
                    post_norm=variant.post_norm,
                    layer_scale=variant.layer_scale,
                    downsample=stage < 3,
                )
                for stage, (channels, group, depth) in enumerate(
                    zip(variant.stage_channels, variant.stage_groups, variant.stage_depths, strict=True)
                )
            )
        )
        last, width = variant.stage_channels[-1], int(HEAD_RATIO * variant.stage_channels[-1])
        self.conv_head = nn.Sequential(
            nn.Conv2d(last, width, 1, bias=False), nn.Sequential(nn.BatchNorm2d(width)), nn.GELU()
        )
        self.head = nn.Linear(width, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The official start: linear layers N(0, 0.02) cut off, biases zero, DCNv3 as it starts itself."""
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)
        for part in self.modules():
            if isinstance(part, DCNv3):
                part.reset_parameters()

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """x (N, 3, H, W) -> the four stages' (N, C_i, H/2^(i+1), W/2^(i+1)): what a detector builds on."""
        x = self.patch_embed(x)
        found = []
        for stage in self.levels:
            assert isinstance(stage, Stage)
            x = stage.norm(stage.blocks(x))
            found.append(x.permute(0, 3, 1, 2))
            x = stage.downsample(x)
        return tuple(found)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        x = self.levels(self.patch_embed(x)).permute(0, 3, 1, 2)
        logits: Tensor = self.head(self.conv_head(x).mean((2, 3)))
        return logits


class RigidMixing(nn.Module):
    """x (N, H, W, C) -> (N, H, W, C): what is left of DCNv3 without its offsets and mask.

    Projection, depthwise 3x3 convolution, projection: the same points on their fixed grid, weighted by parameters
    rather than by the input. The control that shows what a network pays for being deformable.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input_proj = nn.Linear(channels, channels)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.output_proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Channels last in and out."""
        mixed = self.depthwise(self.input_proj(x).permute(0, 3, 1, 2))
        out: Tensor = self.output_proj(mixed.permute(0, 2, 3, 1))
        return out


def internimage(
    name: str,
    num_classes: int = 1000,
    *,
    mixing: Mixing | None = None,
    implementation: str | Core = "auto",
) -> InternImage:
    """InternImage "T", "S" or "B". Raises ValueError for another name."""
    if name not in VARIANTS:
        raise ValueError(nearest("InternImage", name, VARIANTS))
    return InternImage(VARIANTS[name], num_classes, mixing=mixing, implementation=implementation)
