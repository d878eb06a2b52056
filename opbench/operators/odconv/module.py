"""ODConv as a layer: omni-dimensional dynamic convolution with the signature and weights of its own repository."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from opbench.operators.common.arguments import check_divides, check_image, check_whole
from opbench.operators.common.choice import Core
from opbench.operators.odconv.cores import CORES

LEAST_CHANNELS = 16


class OmniAttention(nn.Module):
    """x (N, C, H, W) -> how much each channel, filter, tap and kernel counts for each image; None where all count 1.

    The order and the state-dict keys are the published module's. `temperature` divides all logits; the published
    training lowers it from 60 or so to 1.
    """

    def __init__(
        self, in_planes: int, out_planes: int, kernel_size: int, groups: int, reduction: float, kernel_num: int
    ) -> None:
        super().__init__()
        hidden = hidden_channels(in_planes, reduction)
        self.temperature = 1.0
        self.fc = nn.Conv2d(in_planes, hidden, 1, bias=False)
        self.bn = nn.BatchNorm2d(hidden)
        self.channel_fc = nn.Conv2d(hidden, in_planes, 1)
        depthwise = in_planes == groups == out_planes
        self.filter_fc = None if depthwise else nn.Conv2d(hidden, out_planes, 1)
        self.spatial_fc = None if kernel_size == 1 else nn.Conv2d(hidden, kernel_size**2, 1)
        self.kernel_fc = None if kernel_num == 1 else nn.Conv2d(hidden, kernel_num, 1)
        for layer in (self.fc, self.channel_fc, self.filter_fc, self.spatial_fc, self.kernel_fc):
            if layer is not None:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Channel (N, C), filter (N, O), spatial (N, k*k) and kernel attention (N, K)."""
        z = F.relu(self.normalised(self.fc(x.mean((2, 3), keepdim=True))))

        def logits(layer: nn.Conv2d) -> Tensor:
            out: Tensor = layer(z).flatten(1) / self.temperature
            return out

        channel = logits(self.channel_fc).sigmoid()
        filters = None if self.filter_fc is None else logits(self.filter_fc).sigmoid()
        spatial = None if self.spatial_fc is None else logits(self.spatial_fc).sigmoid()
        kernel = None if self.kernel_fc is None else logits(self.kernel_fc).softmax(1)
        return channel, filters, spatial, kernel

    def normalised(self, z: Tensor) -> Tensor:
        """`z` (N, hidden, 1, 1). One image has no deviation: the running statistics, which then stay as they are."""
        if not self.training or z.shape[0] > 1:
            out: Tensor = self.bn(z)
            return out
        norm = self.bn
        return F.batch_norm(z, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)


class ODConv2d(nn.Module):
    """x (N, in_planes, H, W) -> (N, out_planes, Ho, Wo): each image is convolved with a kernel that it asks for.

    A small network of the image's mean weighs the input's channels, the filters, the taps of the window and
    `kernel_num` kernels, of which the convolution's is the weighted sum; no bias.

    Source: "Omni-Dimensional Dynamic Convolution", ICLR 2022, equation 3, and `modules/odconv.py` of OSVAI/ODConv,
    whose argument order, state-dict keys and initialisation these are. One thing differs: in training the published
    module fails at a batch of one image, as its batch norm sees one value a channel, and YOLO packages build networks
    so. Here one image is normalised by the running statistics, which then stay as they are; a batch of several is as
    published. `implementation` is a name from `opbench.operators.odconv.CORES`, "auto" or a callable of
    (x, weight, kernel, spatial, *, stride, padding, dilation, groups).

    Raises ValueError for sizes that are no sizes, groups that don't divide and an input of other channels.
    """

    def __init__(
        self,
        in_planes: int,
        out_planes: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        reduction: float = 0.0625,
        kernel_num: int = 4,
        *,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        check_whole("ODConv2d", in_planes=in_planes, out_planes=out_planes, kernel_size=kernel_size, stride=stride)
        check_whole("ODConv2d", dilation=dilation, groups=groups, kernel_num=kernel_num)
        check_divides("ODConv2d", in_planes=(in_planes, groups), out_planes=(out_planes, groups))
        if not isinstance(padding, int) or padding < 0:
            raise ValueError(f"ODConv2d: expected padding to be an integer of at least 0, got {padding!r}")
        if not reduction > 0:
            raise ValueError(f"ODConv2d: expected a reduction above 0, got {reduction!r}")
        self.in_planes = in_planes
        self.out_planes = out_planes
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        self.kernel_num = kernel_num
        self.implementation = implementation
        self.attention = OmniAttention(in_planes, out_planes, kernel_size, groups, reduction, kernel_num)
        shape = (kernel_num, out_planes, in_planes // groups, kernel_size, kernel_size)
        self.weight = nn.Parameter(self.attention.fc.weight.new_empty(shape))
        for one in self.weight:
            nn.init.kaiming_normal_(one, mode="fan_out", nonlinearity="relu")

    def update_temperature(self, temperature: float) -> None:
        """What all logits of attention are divided by."""
        self.attention.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """`x` (N, in_planes, H, W) -> (N, out_planes, Ho, Wo)."""
        check_image("ODConv2d", x, self.in_planes)
        channel, filters, spatial, kernel = self.attention(x)
        core = CORES.choose(self.implementation, x.device.type)
        # Under autocast softmax returns float32, and what was float32 may come as a half type.
        dtype = channel.dtype
        spatial = channel.new_ones(x.shape[0], self.kernel_size**2) if spatial is None else spatial
        kernel = channel.new_ones(x.shape[0], 1) if kernel is None else kernel.to(dtype)
        out = core(
            x.to(dtype) * channel[:, :, None, None], self.weight.to(dtype), kernel, spatial,
            stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups,
        )  # fmt: skip
        return out if filters is None else out * filters[:, :, None, None]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """What `to`, `half` and `cuda` call, the kernels given one after the other.

        torch asks for an image's memory format of whatever has four or five axes, and only four can have it; YOLO
        packages ask for it of a whole network.
        """

        def applied(value: Tensor) -> Tensor:
            return fn(value.flatten(0, 1)).unflatten(0, value.shape[:2]) if value.ndim == 5 else fn(value)

        return super()._apply(applied, recurse)  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """The convolution's arguments."""
        window = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return f"{self.in_planes}, {self.out_planes}, {window}, groups={self.groups}, kernel_num={self.kernel_num}"


def hidden_channels(in_planes: int, reduction: float) -> int:
    """Of the attention's network: a share of the input's, and 16 at least."""
    return max(int(in_planes * reduction), LEAST_CHANNELS)
