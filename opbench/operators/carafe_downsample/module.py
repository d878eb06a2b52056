"""CARAFE++'s downsampling as a layer, channels first."""

from __future__ import annotations

from torch import Tensor, nn

from opbench.operators.carafe_downsample.cores import CORES
from opbench.operators.common.arguments import check_centred, check_divides, check_image, check_whole
from opbench.operators.common.choice import Core
from opbench.operators.common.reassembling import initialise, weights


class CARAFEDownsample(nn.Module):
    """x (N, channels, H, W) -> (N, out_channels, ceil(H/s), ceil(W/s)): every pixel a weighted mean of a window of x.

    A 1x1 convolution compresses the channels, an `encoder_kernel` convolution of stride s = `scale_factor` predicts
    `down_kernel`**2 weights for each output pixel and group, softmax makes them sum to 1, and the window around
    (s*Y, s*X) is added up under them. With `out_channels`, a 1x1 convolution without bias (`project`) makes other
    channels of the result; the paper's operator keeps its channels, and has none.

    Source: CARAFE++, arXiv 2012.04733, whose downsampling predicts with the stride and compresses to 16 channels. Its
    authors have published no code of it: arguments, state-dict keys and initialisation follow their CARAFE
    (`CARAFEPack`), with `down` for `up`. Copies differ in what the paper leaves open: compressed channels (16 or 64),
    a norm behind the compressor, reflected borders. `implementation` is a name from
    `opbench.operators.carafe_downsample.CORES`, "auto" or a callable with a core's signature.

    Raises ValueError for an even kernel, channels that the groups don't divide, sizes that are no sizes, and an input
    of other channels.
    """

    def __init__(
        self,
        channels: int,
        scale_factor: int = 2,
        down_kernel: int = 5,
        down_group: int = 1,
        encoder_kernel: int = 3,
        compressed_channels: int = 16,
        *,
        out_channels: int | None = None,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        outputs = channels if out_channels is None else out_channels
        check_whole("CARAFEDownsample", channels=channels, scale_factor=scale_factor, down_group=down_group)
        check_whole("CARAFEDownsample", compressed_channels=compressed_channels, out_channels=outputs)
        check_centred("CARAFEDownsample", down_kernel=down_kernel, encoder_kernel=encoder_kernel)
        check_divides("CARAFEDownsample", channels=(channels, down_group))
        self.channels = channels
        self.scale_factor = scale_factor
        self.down_kernel = down_kernel
        self.down_group = down_group
        self.encoder_kernel = encoder_kernel
        self.compressed_channels = compressed_channels
        self.implementation = implementation
        self.channel_compressor = nn.Conv2d(channels, compressed_channels, 1)
        self.content_encoder = nn.Conv2d(
            compressed_channels, down_group * down_kernel**2, encoder_kernel, scale_factor, encoder_kernel // 2
        )
        self.project = nn.Conv2d(channels, outputs, 1, bias=False) if outputs != channels else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As CARAFE's: xavier-uniform, the encoder N(0, 0.001), biases zero; a fresh one is close to a box blur."""
        initialise(self.channel_compressor, self.content_encoder)

    def forward(self, x: Tensor) -> Tensor:
        """`x` (N, channels, H, W) -> (N, out_channels, ceil(H/s), ceil(W/s))."""
        check_image("CARAFEDownsample", x, self.channels)
        logits = self.content_encoder(self.channel_compressor(x))
        core = CORES.choose(self.implementation, x.device.type)
        out = core(
            x,
            weights(logits, self.down_group, self.down_kernel, x),
            kernel_size=self.down_kernel,
            group_size=self.down_group,
            stride=self.scale_factor,
        )
        return out if self.project is None else self.project(out)

    def extra_repr(self) -> str:
        """The settings that the convolutions don't show."""
        return f"scale_factor={self.scale_factor}, down_kernel={self.down_kernel}, down_group={self.down_group}"
