"""DCNv3 as a layer (InternImage's module, channels last) and as the YOLOv8 write-up's block (channels first)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from opbench.errors import nearest
from opbench.operators.common.arguments import check_int
from opbench.operators.common.choice import Core
from opbench.operators.dcnv3.cores import CORES
from opbench.operators.dcnv3.layer import SamplingLayer
from opbench.operators.dcnv3.settings import DCNv3Settings

Norm = Literal["LN", "BN"]
Activation = Literal["GELU", "ReLU", "SiLU"]

_ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "GELU": nn.GELU,
    "ReLU": lambda: nn.ReLU(inplace=True),
    "SiLU": lambda: nn.SiLU(inplace=True),
}


class ChannelsLast(nn.Module):
    """(N, C, H, W) -> (N, H, W, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """A view."""
        return x.permute(0, 2, 3, 1)


# Channels first in, channels last out. The positions inside are part of the official state-dict keys.
_NORMS: Mapping[str, Callable[[int], nn.Module]] = {
    "LN": lambda channels: nn.Sequential(ChannelsLast(), nn.LayerNorm(channels, eps=1e-6)),
    "BN": lambda channels: nn.Sequential(nn.BatchNorm2d(channels), ChannelsLast()),
}


class DCNv3(SamplingLayer):
    """x (N, H, W, C) -> (N, Ho, Wo, C): InternImage's deformable convolution v3.

    A depthwise convolution of the input with norm and activation predicts offsets and a softmax-normalised mask;
    the linearly projected input is sampled with them (`opbench.operators.dcnv3.dcnv3`) and projected again. With
    `center_feature_scale` each group is blended with the projected input itself. State-dict keys and initial values
    are the official ones, so InternImage checkpoints load; a fresh module's offsets are all zero.

    Beyond the official module, whose offsets always have the input's size, any stride and pad work: the depthwise
    convolution then takes the core's stride, and padding that keeps both windows centred on the same pixel,
    pad + (dw_kernel_size - 1 - dilation*(kernel_size - 1)) / 2. At stride 1 and pad = dilation*(kernel_size - 1)/2
    that is the official module exactly. Refused at construction: settings for which that padding is no whole number
    or negative, and `center_feature_scale` where the output's size may differ from the input's.

    `implementation` is a name from `opbench.operators.dcnv3.CORES`, "auto", or a callable with the core's signature.
    Source: InternImage, arXiv 2211.05778, section 3.1, and its published module.
    """

    def __init__(
        self,
        channels: int = 64,
        kernel_size: int = 3,
        dw_kernel_size: int | None = None,
        stride: int = 1,
        pad: int = 1,
        dilation: int = 1,
        group: int = 4,
        offset_scale: float = 1.0,
        act_layer: Activation = "GELU",
        norm_layer: Norm = "LN",
        center_feature_scale: bool = False,
        remove_center: bool = False,
        *,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        settings = DCNv3Settings(
            kernel_size=kernel_size,
            stride=stride,
            pad=pad,
            dilation=dilation,
            group=group,
            offset_scale=offset_scale,
            remove_center=remove_center,
        )
        self.hold(channels, settings, implementation)
        if norm_layer not in _NORMS:
            raise ValueError(nearest("norm_layer", norm_layer, _NORMS))
        if act_layer not in _ACTIVATIONS:
            raise ValueError(nearest("act_layer", act_layer, _ACTIVATIONS))
        dw_kernel_size = kernel_size if dw_kernel_size is None else dw_kernel_size
        check_int("dw_kernel_size", dw_kernel_size, 1)
        excess = dw_kernel_size - 1 - dilation * (kernel_size - 1)
        dw_pad = pad + excess // 2
        said = f"kernel_size {kernel_size}, dw_kernel_size {dw_kernel_size}, pad {pad}, dilation {dilation}"
        if excess % 2:
            raise ValueError(
                f"dw_kernel_size: its window can't be centred on the sampling window ({said}); "
                f"choose a dw_kernel_size that differs from {dilation * (kernel_size - 1) + 1} by an even number"
            )
        if dw_pad < 0:
            raise ValueError(
                f"pad: the offsets' depthwise window doesn't reach as far as the sampling window ({said}); "
                f"pad by at least {-(excess // 2)}, or raise dw_kernel_size by {-2 * dw_pad}"
            )
        if center_feature_scale and (stride != 1 or 2 * pad != dilation * (kernel_size - 1)):
            raise ValueError(
                f"center_feature_scale: it blends output with input, so their sizes must be equal; "
                f"expected stride 1 and pad {dilation * (kernel_size - 1) / 2:g}, got stride {stride}, pad {pad}"
            )
        self.dw_kernel_size = dw_kernel_size
        self.center_feature_scale = center_feature_scale

        self.dw_conv = nn.Sequential(
            nn.Conv2d(channels, channels, dw_kernel_size, stride, dw_pad, groups=channels),
            _NORMS[norm_layer](channels),
            _ACTIVATIONS[act_layer](),
        )
        self.offset = nn.Linear(channels, group * settings.points * 2)
        self.mask = nn.Linear(channels, group * settings.points)
        self.input_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        if center_feature_scale:
            self.blend_groups()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The official start: zero offsets, uniform mask, xavier-uniform projections without bias."""
        for layer in (self.offset, self.mask):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.input_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def features(self, x: Tensor) -> Tensor:
        """x (N, H, W, C) -> (N, Ho, Wo, C): what offsets and mask are predicted from."""
        out: Tensor = self.dw_conv(x.permute(0, 3, 1, 2))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """x (N, H, W, C) -> (N, Ho, Wo, C). Raises ValueError unless x has four axes, `channels` last."""
        if x.ndim != 4 or x.shape[-1] != self.channels:
            raise ValueError(
                f"x: expected channels last (N, H, W, {self.channels}), got shape {tuple(x.shape)}; "
                f"permute a channels-first tensor with x.permute(0, 2, 3, 1)"
            )
        projected = self.input_proj(x)
        features = self.features(x)
        logits = self.mask(features)
        core = CORES.choose(self.implementation, x.device.type)
        fused = CORES.of_logits(core)
        if fused is not None:
            core, mask = fused, logits
        else:
            # From an empty batch reshape can't infer the number of points.
            points = self.mask.out_features // self.group
            mask = F.softmax(logits.reshape(*logits.shape[:-1], self.group, points), -1).flatten(-2)
        # Under autocast linear layers and softmax return different dtypes; a core takes one.
        out = core(
            projected,
            self.offset(features).to(projected.dtype),
            mask.to(projected.dtype),
            **self.settings.options,
        )
        if self.center_feature_scale:
            out = self.blended(out, projected, features)
        result: Tensor = self.output_proj(out)
        return result


class ChannelsFirstDCNv3(DCNv3):
    """x (N, C, H, W) -> (N, C, Ho, Wo): the same layer where its neighbours are channels first."""

    channels_last = False

    def forward(self, x: Tensor) -> Tensor:
        """Both permutations are views; the linear layers read through them."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Conv(nn.Module):
    """x (N, C1, H, W) -> (N, C2, H, W): YOLO's 1x1 convolution without bias, batch norm and SiLU."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, 1, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class DCNV3_YoLo(nn.Module):  # noqa: N801 - the name that the YOLO community's configurations use
    """x (N, inc, H, W) -> (N, ouc, ceil(H/s), ceil(W/s)): the YOLOv8 write-up's block around DCNv3.

    1x1 convolution, batch norm, SiLU; DCNv3; batch norm, activation. The signature is the write-up's, but what it
    ignores is honoured: p None pads "same" for every odd k, so that the output has the size of a padded strided
    convolution's (the write-up always pads 1, right for k=3, s=1, d=1 only); an int pads that much. act True is
    SiLU, False none, or any module; it is the block's last step and leaves the inner SiLU alone.

    Raises ValueError for an even k without p: no padding keeps the size then.
    """

    def __init__(
        self,
        inc: int,
        ouc: int,
        k: int = 1,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        d: int = 1,
        act: bool | nn.Module = True,
        *,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        check_int("k", k, 1)
        if p is None and k % 2 == 0:
            raise ValueError(
                f"k: expected an odd kernel size, got {k}: no padding keeps the size; give p, or k={k + 1}"
            )
        self.conv = _Conv(inc, ouc)
        self.dcnv3 = DCNv3(
            ouc,
            kernel_size=k,
            stride=s,
            pad=d * (k - 1) // 2 if p is None else p,
            dilation=d,
            group=g,
            implementation=implementation,
        )
        self.bn = nn.BatchNorm2d(ouc)
        self.act = act if isinstance(act, nn.Module) else nn.SiLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Channels first in and out."""
        x = self.conv(x).permute(0, 2, 3, 1)
        out: Tensor = self.act(self.bn(self.dcnv3(x).permute(0, 3, 1, 2)))
        return out
