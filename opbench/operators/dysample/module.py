"""DySample as a layer: the authors' signature, state dict and initial values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opbench.errors import nearest
from opbench.kernels.dysample_shapes import located_in
from opbench.operators.common.arguments import check_image, check_whole
from opbench.operators.common.choice import Core
from opbench.operators.dysample.cores import CORES

STYLES = ("lp", "pl")


class DySample(nn.Module):
    """Upsamples x (N, in_channels, H, W) to (N, in_channels, s*H, s*W) by sampling x where a 1x1 convolution points.

    Every output pixel is x, bilinearly and with its border continued, at its own place moved by an offset in input
    pixels: 0.25 times the convolution, or with `dyscope` 0.5 * sigmoid(another one) times it (equations 2 to 5 of the
    paper). `groups` parts of the channels have offsets of their own. Style "lp" predicts at the input's size, "pl" from
    the shuffled pixels at the output's. A fresh module is nearly bilinear interpolation.

    Source: Liu et al. 2023, arXiv 2308.15085, and tiny-smart/dysample, whose weights load: those with `scope.bias`,
    which its first version has, and those without. A module takes that parameter, or gives it up, as its state dict is
    loaded: make optimisers afterwards. Unlike the authors' code it forms locations in float32 whatever the dtype: in
    float16 they would be 1/16 px apart from column 64 on. `implementation` is "auto", a name in `CORES` or a function
    with a core's signature. Raises ValueError for settings that don't fit together and for inputs of other channels.
    """

    scope: nn.Conv2d | None
    init_pos: Tensor

    def __init__(
        self,
        in_channels: int,
        scale: int = 2,
        style: str = "lp",
        groups: int = 4,
        dyscope: bool = False,
        *,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        check_whole("DySample", in_channels=in_channels, scale=scale, groups=groups)
        if reason := unfit(in_channels, scale, style, groups):
            raise ValueError(f"DySample: {reason}")
        CORES.check_name(implementation)
        self.in_channels, self.scale, self.style, self.groups = in_channels, scale, style, groups
        self.implementation = implementation
        shuffled = scale**2 if style == "pl" else 1
        shape = (in_channels // shuffled, 2 * groups * scale**2 // shuffled, 1)
        self.offset = nn.Conv2d(*shape)
        self.scope = nn.Conv2d(*shape, bias=False) if dyscope else None
        # Where the children sit around their parent's centre, in input pixels: (x and y, group, row, column).
        step = (torch.arange(scale) + 0.5) / scale - 0.5
        children = torch.stack((step.expand(scale, scale), step.view(-1, 1).expand(scale, scale)))
        self.register_buffer("init_pos", children.unsqueeze(1).repeat(1, groups, 1, 1).reshape(1, -1, 1, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The authors': offsets N(0, 0.001) without bias, scopes 0 (so that each is 0.25 as without them)."""
        nn.init.normal_(self.offset.weight, std=0.001)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)
        if self.scope is not None:
            nn.init.zeros_(self.scope.weight)

    def moves(self, x: Tensor) -> Tensor:
        """How far each output pixel's sample is moved, in input pixels, float32 at least: (N, 2*groups*s*s, H, W)."""
        dtype = located_in(x.dtype)
        features = F.pixel_shuffle(x, self.scale) if self.style == "pl" else x
        moves: Tensor = self.offset(features).to(dtype)
        scope = 0.25 if self.scope is None else self.scope(features).to(dtype).sigmoid() * 0.5
        moves = moves * scope
        return F.pixel_unshuffle(moves, self.scale) if self.style == "pl" else moves

    def forward(self, x: Tensor) -> Tensor:
        """x (N, in_channels, H, W) -> (N, in_channels, s*H, s*W)."""
        check_image("DySample", x, self.in_channels)
        core = CORES.choose(self.implementation, x.device.type)
        out = core(x, self.moves(x) + self.init_pos, scale=self.scale, groups=self.groups)
        return out.to(x.dtype)  # under autocast it comes as wide as the offsets

    def extra_repr(self) -> str:
        """The settings that the convolutions don't show."""
        return f"scale={self.scale}, style={self.style!r}, groups={self.groups}"

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *rest: Any) -> None:
        """Takes the layout of what is loaded: `scope` with a bias or without."""
        if self.scope is not None and f"{prefix}scope.weight" in state_dict:
            given = f"{prefix}scope.bias" in state_dict
            if given != (self.scope.bias is not None):
                weight = self.scope.weight
                self.scope.bias = nn.Parameter(weight.new_zeros(weight.shape[0])) if given else None
        super()._load_from_state_dict(state_dict, prefix, *rest)


def unfit(channels: int, scale: int, style: str, groups: int) -> str | None:
    """Why there is no layer of these settings, or None."""
    if style not in STYLES:
        return nearest("style", str(style), STYLES)
    if channels % groups:
        return f"expected channels divisible by groups, got {channels} channels and groups={groups}"
    if style == "pl" and channels % scale**2:
        return (
            f"style 'pl' shuffles {scale}x{scale} pixels out of the channels: expected channels divisible by "
            f"{scale**2}, got {channels}; use a multiple, or style 'lp'"
        )
    return None
