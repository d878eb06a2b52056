"""CARAFE, content-aware reassembly of features (Wang et al. 2019, arXiv 1905.02188): the function and its two modules.

`CARAFE` is the module of the paper and its official package, `YoloCARAFE` the one of the YOLOv8 write-up; the weights
of either load. Both predict a mask from the input and reassemble the input under it with `carafe`, which computes the
same function whatever the implementation. Adding one takes a function with the core's signature,
`(x, mask, *, kernel_size, group_size, scale_factor) -> out`, and an entry in `IMPLEMENTATIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from opbench.kernels.cpu import processor
from opbench.kernels.cpu.carafe import carafe_cpu
from opbench.kernels.triton import launch
from opbench.kernels.triton.carafe import carafe_triton
from opbench.operators import compiling
from opbench.operators.carafe_compiled import compiled
from opbench.operators.carafe_cores import shift_add, unfold
from opbench.operators.choice import Core, choose
from opbench.operators.peers import CARAFE_PEERS
from opbench.registry import nearest
from opbench.schema import Implementation

IMPLEMENTATIONS: Mapping[str, Implementation] = {
    implementation.name: implementation
    for implementation in (
        Implementation(
            "unfold",
            unfold,
            note="the YOLOv8 write-up's way, plus one step: the mask of taps outside the image is cleared",
        ),
        Implementation("shift-add", shift_add),
        Implementation("compiled", compiled, missing=compiling.missing, compiles=True),
        Implementation(
            "cpu",
            carafe_cpu,
            devices=("cpu",),
            missing=processor.missing,
            note="machine code through llvmlite, made on the first call and kept in the user's cache folder",
        ),
        Implementation(
            "triton",
            carafe_triton,
            devices=("cuda",),
            missing=launch.missing,
            note="reads either memory format in place; no atomics. Not measured on a GPU yet",
        ),
        *CARAFE_PEERS.values(),
    )
}
# What "auto" takes on a device type where it is in the table and can run; else FALLBACK.
PREFERRED = {"cuda": ("triton",), "cpu": ("cpu",)}
FALLBACK = "shift-add"


def carafe(
    x: Tensor,
    mask: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
    implementation: str | Core = "auto",
) -> Tensor:
    """Reassembles x (N, C, H, W) under mask (N, group_size*kernel_size**2, s*H, s*W) into (N, C, s*H, s*W).

    s is `scale_factor`. Output pixel (Y, X) is the sum of the kernel_size x kernel_size window of x around its parent
    (Y//s, X//s), weighted by the mask at (Y, X); taps outside the image contribute nothing, whatever the mask holds
    there. Mask channel (group*kernel_size + iy)*kernel_size + ix weights the tap at row iy, column ix for channel
    block `group`. No softmax is applied.

    `implementation` is "auto", a name in `IMPLEMENTATIONS` or a callable with the core's signature. Raises ValueError
    for settings or tensors that don't fit together, TypeError for what is no tensor, RuntimeError for an implementation
    that can't run here.

    >>> import torch
    >>> x = torch.arange(4.0).view(1, 1, 2, 2)
    >>> carafe(x, torch.ones(1, 1, 4, 4), kernel_size=1, group_size=1, scale_factor=2)[0, 0]
    tensor([[0., 0., 1., 1.],
            [0., 0., 1., 1.],
            [2., 2., 3., 3.],
            [2., 2., 3., 3.]])

    Source: equations 1-5 of the paper; channel order of its official package.
    """
    _check_settings("carafe", kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)
    _check_tensors(x, mask, kernel_size, group_size, scale_factor)
    core = choose(implementation, IMPLEMENTATIONS, x.device.type, PREFERRED, FALLBACK)
    return core(x, mask, kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)


class CARAFE(nn.Module):
    """Upsamples x (N, channels, H, W) to (N, channels, s*H, s*W) as the paper and its official package do.

    1x1 convolution to `compressed_channels`, `encoder_kernel` convolution to s*s*up_group*up_kernel**2 channels, pixel
    shuffle, softmax over the taps of each group, `carafe`. State-dict keys and initialisation are the package's: a
    fresh module is close to a box blur. Raises ValueError for settings that can't work and for inputs of other
    channels. `implementation` as in `carafe`.
    """

    def __init__(
        self,
        channels: int,
        scale_factor: int = 2,
        up_kernel: int = 5,
        up_group: int = 1,
        encoder_kernel: int = 3,
        encoder_dilation: int = 1,
        compressed_channels: int = 64,
        *,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        _check_settings("CARAFE", up_kernel=up_kernel, up_group=up_group, scale_factor=scale_factor)
        _check_settings("CARAFE", encoder_kernel=encoder_kernel, encoder_dilation=encoder_dilation)
        _check_settings("CARAFE", channels=channels, compressed_channels=compressed_channels)
        _check_name(implementation)
        if channels % up_group:
            raise ValueError(f"CARAFE: expected channels divisible by up_group, got channels={channels}, {up_group=}")
        if (encoder_kernel - 1) * encoder_dilation % 2:
            raise ValueError(
                f"CARAFE: expected an encoder that keeps the size of its input, (encoder_kernel - 1) * "
                f"encoder_dilation even, got {encoder_kernel=}, {encoder_dilation=}: use an odd encoder_kernel"
            )
        self.channels = channels
        self.scale_factor = scale_factor
        self.up_kernel = up_kernel
        self.up_group = up_group
        self.encoder_kernel = encoder_kernel
        self.encoder_dilation = encoder_dilation
        self.compressed_channels = compressed_channels
        self.implementation = implementation
        self.channel_compressor = nn.Conv2d(channels, compressed_channels, 1)
        self.content_encoder = nn.Conv2d(
            compressed_channels,
            scale_factor**2 * up_group * up_kernel**2,
            encoder_kernel,
            padding=(encoder_kernel - 1) * encoder_dilation // 2,
            dilation=encoder_dilation,
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The package's initialisation: xavier-uniform, the encoder N(0, 0.001), biases zero."""
        nn.init.xavier_uniform_(self.channel_compressor.weight)
        nn.init.normal_(self.content_encoder.weight, std=0.001)
        for convolution in (self.channel_compressor, self.content_encoder):
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)

    def forward(self, x: Tensor) -> Tensor:
        """`x` (N, channels, H, W) -> (N, channels, s*H, s*W)."""
        _check_channels("CARAFE", x, self.channels)
        logits = F.pixel_shuffle(self.content_encoder(self.channel_compressor(x)), self.scale_factor)
        mask = logits.unflatten(1, (self.up_group, self.up_kernel**2)).softmax(2).flatten(1, 2)
        return carafe(
            x,
            mask.to(x.dtype),  # under autocast, softmax returns float32
            kernel_size=self.up_kernel,
            group_size=self.up_group,
            scale_factor=self.scale_factor,
            implementation=self.implementation,
        )

    def extra_repr(self) -> str:
        """The settings that the convolutions don't show."""
        return f"scale_factor={self.scale_factor}, up_kernel={self.up_kernel}, up_group={self.up_group}"


class YoloCARAFE(nn.Module):
    """Upsamples x (N, c, H, W) to (N, c, scale*H, scale*W) as the YOLOv8 write-up does; its signature and weights.

    1x1 Conv+BN+SiLU to `c_mid`, `k_enc` Conv+BN to (scale*k_up)**2 channels, pixel shuffle, softmax over all taps,
    `carafe` with one group. Kernels are odd: the write-up fails on even ones. Raises ValueError for settings that
    can't work and for inputs of other channels. `implementation` as in `carafe`; "unfold" is the write-up's own.
    """

    def __init__(
        self,
        c: int,
        k_enc: int = 3,
        k_up: int = 5,
        c_mid: int = 64,
        scale: int = 2,
        *,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        _check_settings("YoloCARAFE", c=c, k_enc=k_enc, k_up=k_up, c_mid=c_mid, scale=scale)
        _check_name(implementation)
        self.c = c
        self.k_up = k_up
        self.scale = scale
        self.implementation = implementation
        self.comp = _ConvBN(c, c_mid, 1, nn.SiLU())
        self.enc = _ConvBN(c_mid, (scale * k_up) ** 2, k_enc, nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """`x` (N, c, H, W) -> (N, c, scale*H, scale*W)."""
        _check_channels("YoloCARAFE", x, self.c)
        mask = F.pixel_shuffle(self.enc(self.comp(x)), self.scale).softmax(1)
        return carafe(
            x,
            mask.to(x.dtype),  # under autocast, softmax returns float32
            kernel_size=self.k_up,
            group_size=1,
            scale_factor=self.scale,
            implementation=self.implementation,
        )


class _ConvBN(nn.Module):
    """The YOLO community's Conv: convolution without bias, batch norm, activation, under its state-dict keys."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.act = activation

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


_CENTRED = ("kernel_size", "up_kernel", "k_up", "k_enc")


def _check_settings(where: str, **settings: int) -> None:
    """Integers of at least 1; kernels that are centred on a pixel are odd."""
    for name, value in settings.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{where}: expected {name} to be an integer of at least 1, got {value!r}")
        if name in _CENTRED and value % 2 == 0:
            raise ValueError(
                f"{where}: expected {name} to be odd, because the window is centred on a pixel, got {value}: "
                f"use {value - 1} or {value + 1}"
            )


def _check_name(implementation: str | Core) -> None:
    """A misspelt name fails where it was written, not at the first call."""
    known = ("auto", *IMPLEMENTATIONS)
    if isinstance(implementation, str) and implementation not in known:
        raise ValueError(nearest("implementation", implementation, known))


def _check_channels(where: str, x: Tensor, channels: int) -> None:
    if x.dim() != 4 or x.shape[1] != channels:
        raise ValueError(f"{where}: expected x of shape (N, {channels}, H, W), got {tuple(x.shape)}")


def _check_tensors(x: Tensor, mask: Tensor, kernel_size: int, group_size: int, scale_factor: int) -> None:
    for name, tensor in (("x", x), ("mask", mask)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"carafe: expected {name} to be a torch.Tensor, got {type(tensor).__name__}")
    if x.dim() != 4 or mask.dim() != 4:
        raise ValueError(
            f"carafe: expected x (N, C, H, W) and mask (N, group_size*kernel_size**2, s*H, s*W), "
            f"got x of shape {tuple(x.shape)} and mask of shape {tuple(mask.shape)}"
        )
    N, C, H, W = x.shape
    if C < 1 or H < 1 or W < 1:
        raise ValueError(f"carafe: expected x (N, C, H, W) with at least one channel and pixel, got {tuple(x.shape)}")
    if C % group_size:
        raise ValueError(
            f"carafe: expected the channels of x to be divisible by group_size, "
            f"got C={C} of x {tuple(x.shape)} and group_size={group_size}"
        )
    expected = (N, group_size * kernel_size**2, scale_factor * H, scale_factor * W)
    if mask.shape != expected:
        raise ValueError(
            f"carafe: expected mask of shape (N, group_size*kernel_size**2, scale_factor*H, scale_factor*W) = "
            f"{expected} for x of shape {tuple(x.shape)}, kernel_size={kernel_size}, group_size={group_size}, "
            f"scale_factor={scale_factor}; got {tuple(mask.shape)}"
        )
    if not x.is_floating_point() or x.dtype != mask.dtype:
        raise ValueError(
            f"carafe: expected x and mask of one floating dtype, got x {x.dtype} and mask {mask.dtype}: "
            f"convert one with .to()"
        )
    if x.device != mask.device:
        raise ValueError(f"carafe: expected x and mask on one device, got x on {x.device} and mask on {mask.device}")
