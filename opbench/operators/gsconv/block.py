"""VoVGSCSP, the block of GSConvs that takes the place of a C3 or a C2f in a slim neck, and the bottleneck inside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from opbench.operators.common.arguments import check_image, check_whole
from opbench.operators.common.block import ConvolutionNormActivation
from opbench.operators.common.choice import Core
from opbench.operators.gsconv.module import GSConv, activation


class GSBottleneck(nn.Module):
    """x (N, c1, H, W) -> (N, c2, H, W): two GSConvs, 1x1 and 3x3, and a 1x1 convolution of x added to them.

    int(c2 * e) channels lie between the two; the second GSConv and the 1x1 convolution have no activation. Arguments
    and implementation as in `VoVGSCSP`; the published class has k and s besides, which it never uses.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        e: float = 0.5,
        *,
        act: bool | nn.Module = True,
        shuffle: str = "parity",
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        between = int(c2 * e)
        more: dict[str, Any] = {"shuffle": shuffle, "implementation": implementation}
        self.conv_lighting = nn.Sequential(
            GSConv(c1, between, 1, 1, act=act, **more), GSConv(between, c2, 3, 1, act=False, **more)
        )
        self.shortcut = _pointwise(c1, c2, False)

    def forward(self, x: Tensor) -> Tensor:
        """`x` (N, c1, H, W) -> (N, c2, H, W)."""
        out: Tensor = self.conv_lighting(x) + self.shortcut(x)
        return out


class VoVGSCSP(nn.Module):
    """x (N, c1, H, W) -> (N, c2, H, W): half the channels past n bottlenecks of GSConvs, half past nothing, then fused.

    Two 1x1 convolutions make int(c2 * e) channels each; those of `cv1` go through n `GSBottleneck`s, and a third 1x1
    convolution fuses those of `cv2` and the bottlenecks', in this order. Each has batch norm and activation.

    Source: "Slim-neck by GSConv", arXiv 2206.02424, and `VoVGSCSP` in `gsconv-yolov5` of
    AlanLi1997/slim-neck-by-gsconv, which is what forks paste: signature and state-dict keys are its. There it stands
    where a C3 or a C2f stood in a neck, a whole block of convolutions, and not in the place of one; in the slot
    `conv3x3` it competes as the block that it is. Its other versions compute something else: `models_inPaper.py` has
    one bottleneck, half as wide inside, under keys without a number; that of `gsconv-yolov8_9_10_11` works only where
    c1 is int(c2 * e), as its GSConv reads x.

    Published weights load. What they hold of `res`, a 3x3 convolution that the published class builds and never calls,
    is passed over: without a gradient it stops data parallel training. `shortcut` changes nothing, as published.
    `act` and `shuffle` as in `GSConv`: the published YOLOv5 code has Mish and "parity", YOLO forks SiLU and "parity".

    Raises ValueError for sizes that are no sizes, for int(c2 * e) that GSConv can't halve, for groups, which the
    published class has an argument for and no use, and for an input of other channels.
    """

    def __init__(
        self,
        c1: int,
        c2: int,
        n: int = 1,
        shortcut: bool = True,
        g: int = 1,
        e: float = 0.5,
        *,
        act: bool | nn.Module = True,
        shuffle: str = "parity",
        implementation: str | Core = "auto",
    ) -> None:
        super().__init__()
        check_whole("VoVGSCSP", c1=c1, c2=c2, n=n)
        if g != 1:
            raise ValueError(f"VoVGSCSP: expected g=1, because nothing in it is grouped by it, got {g!r}")
        if reason := unfit(c2, e):
            raise ValueError(f"VoVGSCSP: {reason}")
        inside = int(c2 * e)
        self.c1 = c1
        self.cv1 = _pointwise(c1, inside, act)
        self.cv2 = _pointwise(c1, inside, act)
        more: dict[str, Any] = {"act": act, "shuffle": shuffle, "implementation": implementation}
        self.gsb = nn.Sequential(*(GSBottleneck(inside, inside, 1.0, **more) for _ in range(n)))
        self.cv3 = _pointwise(2 * inside, c2, act)

    @property
    def implementation(self) -> str | Core:
        """How its GSConvs put their halves together."""
        return self._shuffling()[0].implementation

    @implementation.setter
    def implementation(self, chosen: str | Core) -> None:
        for part in self._shuffling():
            part.implementation = chosen

    def _shuffling(self) -> list[GSConv]:
        return [part for part in self.gsb.modules() if isinstance(part, GSConv)]

    def forward(self, x: Tensor) -> Tensor:
        """`x` (N, c1, H, W) -> (N, c2, H, W)."""
        check_image("VoVGSCSP", x, self.c1)
        out: Tensor = self.cv3(torch.cat((self.cv2(x), self.gsb(self.cv1(x))), 1))
        return out

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        """The published block has a convolution that it never calls."""
        for name in [name for name in state_dict if name.startswith(f"{prefix}res.")]:
            state_dict.pop(name)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def unfit(channels: int, e: float) -> str:
    """Why there is no block of so many channels out, in a sentence; "" where there is one."""
    inside = int(channels * e)
    if inside < 2 or inside % 2:
        return (
            f"expected int(c2 * e) to be an even number, half of it by each convolution of a GSConv, got {inside} of "
            f"c2={channels}, e={e}"
        )
    return ""


def _pointwise(c1: int, c2: int, act: bool | nn.Module) -> ConvolutionNormActivation:
    return ConvolutionNormActivation(nn.Conv2d(c1, c2, 1, bias=False), activation(act))
