"""GSConv as a layer, with the signature and weights of its own repository."""

from __future__ import annotations

from torch import Tensor, nn

from opbench.errors import nearest
from opbench.operators.common.arguments import check_centred, check_divides, check_image, check_whole
from opbench.operators.common.block import ConvolutionNormActivation
from opbench.operators.common.choice import Core
from opbench.operators.gsconv.cores import CORES, SHUFFLES


class GSConv(nn.Module):
    """x (N, c1, H, W) -> (N, c2, Ho, Wo): half the channels by a convolution, half from these by a depthwise one.

    A k x k convolution makes c2 / 2 channels, a depthwise 5x5 convolution of them the others (batch norm and
    activation after each), and the channels of both are shuffled.

    Source: "Slim-neck by GSConv", arXiv 2206.02424, and AlanLi1997/slim-neck-by-gsconv, whose newest code
    (`gsconv-yolov8_9_10_11`) has this argument order and these state-dict keys; its older code has no `p` and `d`:
    (c1, c2, k, s, g, act). Its code has two shuffles, which are each other's inverse: `shuffle="halves"`, that of the
    paper's models and of the newest code, and "parity", that of `gsconv-yolov5` and of most copies. Weights trained
    under one compute nonsense under the other, though they load.

    `act` is True (SiLU), False or a module: the paper's models have nn.Mish(). A padding p of None keeps the size at
    stride 1. `implementation` is a name from `opbench.operators.gsconv.CORES`, "auto" or a callable of
    (first, second, *, shuffle). Raises ValueError for an odd c2, for groups that don't divide, for a dilation, which
    the published module has an argument for and can't compute with, and for an input of other channels.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        k: int = 1,
        s: int = 1,
        p: int | None = None,
        g: int = 1,
        d: int = 1,
        act: bool | nn.Module = True,
        *,
        shuffle: str = "halves",
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        check_whole("GSConv", c1=c1, c2=c2, s=s, g=g)
        check_centred("GSConv", k=k)
        check_divides("GSConv", c2=(c2, 2 * g), c1=(c1, g))
        if d != 1:
            raise ValueError(f"GSConv: expected d=1, because its second convolution is padded for d=1 only, got {d}")
        if shuffle not in SHUFFLES:
            raise ValueError(f"GSConv: {nearest('shuffle', str(shuffle), SHUFFLES)}")
        half = c2 // 2
        self.c1 = c1
        self.shuffle = shuffle
        self.implementation = implementation
        pad = k // 2 if p is None else p
        self.cv1 = ConvolutionNormActivation(nn.Conv2d(c1, half, k, s, pad, groups=g, bias=False), activation(act))
        self.cv2 = ConvolutionNormActivation(nn.Conv2d(half, half, 5, 1, 2, groups=half, bias=False), activation(act))

    def forward(self, x: Tensor) -> Tensor:
        """`x` (N, c1, H, W) -> (N, c2, Ho, Wo)."""
        check_image("GSConv", x, self.c1)
        first = self.cv1(x)
        core = CORES.choose(self.implementation, x.device.type)
        return core(first, self.cv2(first), shuffle=self.shuffle)

    def extra_repr(self) -> str:
        """The order of the channels."""
        return f"shuffle={self.shuffle!r}"


def activation(act: bool | nn.Module) -> nn.Module:
    """SiLU, nothing, or a module of one's own."""
    if isinstance(act, nn.Module):
        return act
    return nn.SiLU() if act is True else nn.Identity()
