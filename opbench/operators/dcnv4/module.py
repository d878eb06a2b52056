"""DCNv4 as a layer, in the published signature, for tokens or images channels last; and channels first for a slot."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from opbench.kernels.dcnv4_packed import width
from opbench.operators.common.arguments import check_int
from opbench.operators.common.choice import Core
from opbench.operators.dcnv3.layer import SamplingLayer
from opbench.operators.dcnv3.settings import DCNv3Settings
from opbench.operators.dcnv4.cores import CORES


class DCNv4(SamplingLayer):
    """x (N, L, C) -> (N, L', C), or x (N, H, W, C) -> (N, Ho, Wo, C): deformable convolution v4.

    One linear layer predicts, from the input (after a depthwise convolution with `dw_kernel_size`), the offsets and
    masks of all groups (`opbench.operators.dcnv4.dcnv4`); the linearly projected input is sampled with them and
    projected again. Masks are unbounded: no softmax, so that a fresh module, whose `offset_mask` layer is zero, gives
    its output layer's bias, 0. With `center_feature_scale` each group is blended with the projected input by a sigmoid
    of a linear layer of the sampled output (DCNv3 takes its features for that). `without_pointwise` leaves both
    projections out, `output_bias` decides on the second's bias.

    Argument order, state-dict keys and initial values are the published ones, so that checkpoints load. Beyond them:
    rectangles, any width of a group, any device and dtype, and stride > 1, where offsets are predicted at the windows'
    centres (the published module predicts them at the input's size, which its sampling then refuses or misreads).

    Raises ValueError at construction for channels that the groups don't divide, for a pad that isn't "same",
    dilation*(kernel_size - 1)/2 (then offsets and output differ in size), for an even dw_kernel_size, and for
    `center_feature_scale` with a stride. `implementation` is a name from `opbench.operators.dcnv4.CORES`, "auto", or a
    callable with the core's signature. Source: arXiv 2401.06197, section 3, and the module of OpenGVLab/DCNv4.
    """

    def __init__(
        self,
        channels: int = 64,
        kernel_size: int = 3,
        stride: int = 1,
        pad: int = 1,
        dilation: int = 1,
        group: int = 4,
        offset_scale: float = 1.0,
        dw_kernel_size: int | None = None,
        center_feature_scale: bool = False,
        remove_center: bool = False,
        output_bias: bool = True,
        without_pointwise: bool = False,
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
        reach = dilation * (kernel_size - 1)
        if 2 * pad != reach:
            advice = f"give pad={reach // 2}" if reach % 2 == 0 else "give an odd kernel_size"
            raise ValueError(
                f"pad: offsets are predicted at the input's pixels, so that windows must be centred on them: expected "
                f"{reach / 2:g} for kernel_size {kernel_size} and dilation {dilation}, got {pad}; {advice}"
            )
        if dw_kernel_size is not None:
            check_int("dw_kernel_size", dw_kernel_size, 1)
            if dw_kernel_size % 2 == 0:
                raise ValueError(
                    f"dw_kernel_size: expected an odd size, which keeps the image's, got {dw_kernel_size}; "
                    f"give {dw_kernel_size + 1}"
                )
        if center_feature_scale and stride != 1:
            raise ValueError(
                f"center_feature_scale: it blends output with input, so their sizes must be equal; expected stride 1, "
                f"got {stride}"
            )
        self.dw_kernel_size = dw_kernel_size
        self.center_feature_scale = center_feature_scale
        self.without_pointwise = without_pointwise
        if dw_kernel_size is not None:
            self.offset_mask_dw = nn.Conv2d(
                channels, channels, dw_kernel_size, stride, (dw_kernel_size - 1) // 2, groups=channels
            )
        self.offset_mask = nn.Linear(channels, width(group, settings.points))
        if not without_pointwise:
            self.value_proj = nn.Linear(channels, channels)
            self.output_proj = nn.Linear(channels, channels, bias=output_bias)
        if center_feature_scale:
            self.blend_groups()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The published start: offsets and masks zero, xavier-uniform projections without bias."""
        nn.init.zeros_(self.offset_mask.weight)
        nn.init.zeros_(self.offset_mask.bias)
        if not self.without_pointwise:
            for layer in (self.value_proj, self.output_proj):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def features(self, x: Tensor) -> Tensor:
        """x (N, H, W, C) -> (N, Ho, Wo, C): what offsets and masks are predicted from."""
        if self.dw_kernel_size is not None:
            out: Tensor = self.offset_mask_dw(x.permute(0, 3, 1, 2))
            return out.permute(0, 2, 3, 1)
        return x if self.stride == 1 else x[:, :: self.stride, :: self.stride]

    def forward(self, x: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """x (N, L, C) with `shape` (H, W), or x (N, H, W, C); the output has as many axes.

        Without `shape`, tokens are those of a square image. Raises ValueError where L is no square then (the published
        module takes H = W = int(sqrt(L)), which is wrong for every rectangle), or where H * W isn't L.
        """
        if x.ndim not in (3, 4) or x.shape[-1] != self.channels:
            raise ValueError(
                f"x: expected channels last, (N, L, {self.channels}) or (N, H, W, {self.channels}), got shape "
                f"{tuple(x.shape)}; permute a channels-first image with x.permute(0, 2, 3, 1)"
            )
        if x.ndim == 3:
            height, width_in = self._image_size(int(x.shape[1]), shape)
            return self._image(x.unflatten(1, (height, width_in))).flatten(1, 2)
        if shape is not None and tuple(shape) != tuple(x.shape[1:3]):
            raise ValueError(f"shape: x {tuple(x.shape)} says (H, W) itself, got {tuple(shape)}; leave it out")
        return self._image(x)

    def _image_size(self, tokens: int, shape: Sequence[int] | None) -> tuple[int, int]:
        if shape is None:
            side = math.isqrt(tokens)
            if side * side != tokens:
                raise ValueError(
                    f"shape: {tokens} tokens are no square image; give shape=(H, W), since a rectangle's sides don't "
                    f"follow from their number"
                )
            return side, side
        height, width_in = (int(size) for size in shape)
        if height * width_in != tokens:
            raise ValueError(f"shape: {height} x {width_in} pixels are {height * width_in} tokens, x has {tokens}")
        return height, width_in

    def _image(self, x: Tensor) -> Tensor:
        value = x if self.without_pointwise else self.value_proj(x)
        offset_mask = self.offset_mask(self.features(x))
        core = CORES.choose(self.implementation, x.device.type)
        # Under autocast linear layers return another dtype than x has; a core takes one.
        out = core(value, offset_mask.to(value.dtype), **self.settings.options)
        if self.center_feature_scale:
            out = self.blended(out, value, out)
        result: Tensor = out if self.without_pointwise else self.output_proj(out)
        return result


class ChannelsFirstDCNv4(DCNv4):
    """x (N, C, H, W) -> (N, C, Ho, Wo): the same layer where its neighbours are channels first."""

    channels_last = False

    def forward(self, x: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """Both permutations are views; the linear layers read through them."""
        return super().forward(x.permute(0, 2, 3, 1), shape).permute(0, 3, 1, 2)
