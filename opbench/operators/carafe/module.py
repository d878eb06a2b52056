"""CARAFE as a layer: the module of the paper and its official package, and the one of the YOLOv8 write-up."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from opbench.operators.carafe.function import carafe, check_settings
from opbench.operators.carafe.implementations import IMPLEMENTATIONS
from opbench.operators.common.arguments import check_image
from opbench.operators.common.block import ConvolutionNormActivation
from opbench.operators.common.choice import Core
from opbench.operators.common.reassembling import initialise, weights


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
        check_settings("CARAFE", up_kernel=up_kernel, up_group=up_group, scale_factor=scale_factor)
        check_settings("CARAFE", encoder_kernel=encoder_kernel, encoder_dilation=encoder_dilation)
        check_settings("CARAFE", channels=channels, compressed_channels=compressed_channels)
        IMPLEMENTATIONS.check_name(implementation)
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
        initialise(self.channel_compressor, self.content_encoder)

    def forward(self, x: Tensor) -> Tensor:
        """`x` (N, channels, H, W) -> (N, channels, s*H, s*W)."""
        check_image("CARAFE", x, self.channels)
        logits = self.content_encoder(self.channel_compressor(x))
        settings = {
            "kernel_size": self.up_kernel,
            "group_size": self.up_group,
            "scale_factor": self.scale_factor,
        }
        core = IMPLEMENTATIONS.choose(self.implementation, x.device.type)
        fused = IMPLEMENTATIONS.of_logits(core)
        if fused is not None:
            return fused(x, logits.to(x.dtype), **settings)
        logits = F.pixel_shuffle(logits, self.scale_factor)
        mask = weights(logits, self.up_group, self.up_kernel, x)
        return carafe(x, mask, **settings, implementation=core)

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
        check_settings("YoloCARAFE", c=c, k_enc=k_enc, k_up=k_up, c_mid=c_mid, scale=scale)
        IMPLEMENTATIONS.check_name(implementation)
        self.c = c
        self.k_up = k_up
        self.scale = scale
        self.implementation = implementation
        self.comp = _ConvBN(c, c_mid, 1, nn.SiLU())
        self.enc = _ConvBN(c_mid, (scale * k_up) ** 2, k_enc, nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """`x` (N, c, H, W) -> (N, c, scale*H, scale*W)."""
        check_image("YoloCARAFE", x, self.c)
        logits: Tensor = self.enc(self.comp(x))
        settings = {"kernel_size": self.k_up, "group_size": 1, "scale_factor": self.scale}
        core = IMPLEMENTATIONS.choose(self.implementation, x.device.type)
        fused = IMPLEMENTATIONS.of_logits(core)
        if fused is not None:
            return fused(x, logits.to(x.dtype), **settings)
        mask = F.pixel_shuffle(logits, self.scale).softmax(1)
        # Under autocast, softmax returns float32.
        return carafe(x, mask.to(x.dtype), **settings, implementation=core)


class _ConvBN(ConvolutionNormActivation):
    """The YOLO community's Conv: convolution without bias, batch norm, activation, under its state-dict keys."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int, activation: nn.Module) -> None:
        super().__init__(nn.Conv2d(c_in, c_out, kernel_size, padding=kernel_size // 2, bias=False), activation)
