"""RFAConv as a layer: receptive-field attention convolution with the signature and weights of its own repository."""

from __future__ import annotations

from torch import Tensor, nn

from opbench.operators.common.arguments import check_centred, check_image, check_whole
from opbench.operators.common.choice import Core
from opbench.operators.rfaconv.cores import CORES


class RFAConv(nn.Module):
    """x (N, in_channel, H, W) -> (N, out_channel, Ho, Wo): a convolution whose kernel has a weight for every pixel.

    A grouped convolution makes k*k features of each channel's window (batch norm, ReLU), an average of the window
    makes k*k attention logits, softmax over them weighs the features, and a convolution contracts them; batch norm and
    ReLU follow. Height and width are those of a padded convolution: (H - 1) // stride + 1.

    Source: arXiv 2304.03198 and `model.py` of Liuchen1997/RFAConv, its form of grouped convolutions (`RFAConv2`
    there, `RFAConv` in every copy): argument order and state-dict keys are its. The paper also describes a form that
    unfolds the input, which has other parameters and computes another function; it is not this one. `norm=False` has
    no batch norm and ReLU at its end, as in the repository's classification networks. `implementation` is a name from
    `opbench.operators.rfaconv.CORES`, "auto" or a callable of (logits, features, weight, bias).

    Raises ValueError for an even kernel, for sizes that are no sizes and for an input of other channels.
    """

    def __init__(
        self,
        in_channel: int,
        out_channel: int,
        kernel_size: int = 3,
        stride: int = 1,
        *,
        norm: bool = True,
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        check_whole("RFAConv", in_channel=in_channel, out_channel=out_channel, stride=stride)
        check_centred("RFAConv", kernel_size=kernel_size)
        taps, pad = kernel_size**2, kernel_size // 2
        self.in_channel = in_channel
        self.out_channel = out_channel
        self.kernel_size = kernel_size
        self.stride = stride
        self.norm = norm
        self.implementation = implementation
        self.get_weight = nn.Sequential(
            nn.AvgPool2d(kernel_size, stride, pad),
            nn.Conv2d(in_channel, in_channel * taps, 1, groups=in_channel, bias=False),
        )
        self.generate_feature = nn.Sequential(
            nn.Conv2d(in_channel, in_channel * taps, kernel_size, stride, pad, groups=in_channel, bias=False),
            nn.BatchNorm2d(in_channel * taps),
            nn.ReLU(),
        )
        behind = (nn.BatchNorm2d(out_channel), nn.ReLU()) if norm else ()
        # Its stride says how the repository calls it; here it holds the weight, and the core multiplies with it.
        self.conv = nn.Sequential(nn.Conv2d(in_channel, out_channel, kernel_size, kernel_size), *behind)

    def forward(self, x: Tensor) -> Tensor:
        """`x` (N, in_channel, H, W) -> (N, out_channel, Ho, Wo)."""
        check_image("RFAConv", x, self.in_channel)
        contraction, *behind = self.conv
        core = CORES.choose(self.implementation, x.device.type)
        out = core(self.get_weight(x), self.generate_feature(x), contraction.weight, contraction.bias)
        for layer in behind:
            out = layer(out)
        return out

    def extra_repr(self) -> str:
        """What its parts don't show."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}"
