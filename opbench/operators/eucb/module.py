"""EUCB as a layer: the authors' signature, state dict and initial values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from opbench.errors import nearest
from opbench.operators.common.arguments import check_centred, check_image, check_whole

# The authors' names, and what stands behind them.
ACTIVATIONS: Mapping[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leakyrelu": lambda inplace: nn.LeakyReLU(0.2, inplace),
    "prelu": lambda inplace: nn.PReLU(init=0.2),
    "gelu": lambda inplace: nn.GELU(),
    "hswish": nn.Hardswish,
}


class EUCB(nn.Module):
    """Upsamples x (N, in_channels, H, W) to (N, out_channels, 2H, 2W): the efficient up-convolution block of EMCAD.

    Nearest interpolation by two, depthwise convolution, batch norm, activation, 1x1 convolution with a bias. The
    authors' code shuffles the channels before the last one, in as many groups as there are channels: that changes
    nothing, so it isn't done here, and the function and the weights are theirs (their issues 12 and 18 ask about it).
    The paper has ReLU and no shuffle; the code takes any of its names of an `activation`.

    Source: EMCAD, Rahman et al., CVPR 2024, arXiv 2405.06880, and SLDGroup/EMCAD, lib/decoders.py.
    Raises ValueError for an even kernel and a stride other than 1, under which the authors' module doesn't double the
    size, for an unknown activation, and for inputs of other channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        check_whole("EUCB", in_channels=in_channels, out_channels=out_channels)
        check_centred("EUCB", kernel_size=kernel_size)
        if stride != 1:
            raise ValueError(f"EUCB: expected stride 1, got {stride!r}: with another it doesn't upsample by two")
        if activation not in ACTIVATIONS:
            raise ValueError(f"EUCB: {nearest('activation', str(activation), ACTIVATIONS)}")
        self.in_channels, self.out_channels, self.activation = in_channels, out_channels, activation
        self.up_dwc = nn.Sequential(
            nn.Upsample(scale_factor=2),
            nn.Conv2d(in_channels, in_channels, kernel_size, padding=kernel_size // 2, groups=in_channels, bias=False),
            nn.BatchNorm2d(in_channels),
            ACTIVATIONS[activation](inplace=True),
        )
        self.pwc = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The authors': convolutions N(0, 0.02), biases zero."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, in_channels, H, W) -> (N, out_channels, 2H, 2W)."""
        check_image("EUCB", x, self.in_channels)
        out: Tensor = self.pwc(self.up_dwc(x))
        return out
