"""What the layers of DCNv3 and DCNv4 share: their attributes are the settings of the core that samples for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opbench.operators.common.arguments import check_int
from opbench.operators.common.choice import Core
from opbench.operators.dcnv3.settings import DCNv3Settings
from opbench.tasks import groups


class SamplingLayer(nn.Module):
    """A layer of `channels`, channels last, around a core that `implementation` names."""

    channels_last = True
    channels: int
    kernel_size: int
    stride: int
    pad: int
    dilation: int
    group: int
    offset_scale: float
    remove_center: bool
    implementation: str | Core
    center_feature_scale_proj_weight: Tensor
    center_feature_scale_proj_bias: Tensor

    def hold(self, channels: int, settings: DCNv3Settings, implementation: str | Core) -> None:
        """Keeps what a layer is constructed with; raises TypeError or ValueError for what no layer can be made of."""
        settings.check()
        check_int("channels", channels, 1)
        if channels % settings.group:
            raise ValueError(
                f"channels: expected a multiple of group, got {channels} channels in {settings.group} groups"
            )
        self.channels = channels
        for name, value in settings.options.items():
            setattr(self, name, value)
        # Checkpoints and configurations write the flag as 0 or 1.
        self.remove_center = bool(settings.remove_center)
        self.implementation = implementation

    def blend_groups(self) -> None:
        """Makes the parameters of `blended`, zeros: each sigmoid a half."""
        self.center_feature_scale_proj_weight = nn.Parameter(torch.zeros(self.group, self.channels))
        self.center_feature_scale_proj_bias = nn.Parameter(torch.zeros(self.group))

    @property
    def settings(self) -> DCNv3Settings:
        """Those of its core, from its attributes as they are now."""
        return DCNv3Settings.of(self)

    def blended(self, out: Tensor, value: Tensor, features: Tensor) -> Tensor:
        """Each group of `out` towards that of `value`, by a sigmoid of a linear layer of `features`; (N, H, W, C)."""
        sigma = F.linear(features, self.center_feature_scale_proj_weight, self.center_feature_scale_proj_bias)
        scale = sigma.sigmoid().repeat_interleave(self.channels // self.group, -1)
        return out * (1 - scale) + value * scale

    def extra_repr(self) -> str:
        """The settings, as they are constructed."""
        return (
            f"channels={self.channels}, kernel_size={self.kernel_size}, stride={self.stride}, pad={self.pad}, "
            f"dilation={self.dilation}, group={self.group}, implementation={self.implementation!r}"
        )


def in_place(layer: type[nn.Module], first: type[nn.Module], advice: str = "") -> Callable[..., nn.Module]:
    """`Operator.replaces` of a layer: its twin with channels `first`, for what stood there was a convolution."""

    def replaced(kind: type[nn.Module], site: Any, implementation: object) -> nn.Module:
        if not isinstance(site.module, nn.Conv2d):
            said = f"{layer.__name__} takes the place of an nn.Conv2d: match the convolution in it{advice}"
            raise site.refused(said)
        kernel_size, dilation = site.window()
        return (first if kind is layer else kind)(
            site.channels,
            kernel_size=kernel_size,
            pad=dilation * (kernel_size - 1) // 2,
            dilation=dilation,
            group=groups(site.channels),
            implementation=implementation,
        )

    return replaced
