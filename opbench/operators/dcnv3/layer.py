"""What the layers of DCNv3 and DCNv4 share: their attributes are the settings of the core that samples for them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from opbench.operators.common.choice import Core
from opbench.operators.dcnv3.settings import DCNv3Settings


class SamplingLayer(nn.Module):
    """A layer of `channels`, channels last, around a core that `implementation` names."""

    channels_last = True
    channels: int
    kernel_size: int
    stride: int
    pad: int
    dilation: int
    group: int
    implementation: str | Core
    center_feature_scale_proj_weight: Tensor
    center_feature_scale_proj_bias: Tensor

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
