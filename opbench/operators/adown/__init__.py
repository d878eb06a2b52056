"""ADown (YOLOv9, arXiv 2402.13616): averaged, half of the channels strided and half of them pooled."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opbench.constructors import Constructor
from opbench.operators.adown.definition import adown_definition
from opbench.operators.common.arguments import check_image
from opbench.operators.common.block import NormedConv
from opbench.schema import Cost, Dims, Implementation, Operator
from opbench.tasks import DOWNSAMPLE2X, even

__all__ = ["OPERATOR", "OPERATORS", "ADown", "adown_definition"]


class ADown(nn.Module):
    """x (N, c1, H, W) -> (N, c2, H//2, W//2): YOLOv9's downsampling, of even c1 and c2.

    The image is averaged over 2 x 2 windows of stride 1. The first half of its channels passes a 3x3 convolution of
    stride 2, the second a 3x3 maximum of stride 2 and a 1x1 convolution; each convolution is a block with batch norm
    and SiLU. State-dict keys `cv1.conv.weight`, `cv1.bn.*`, `cv2.*` are the published ones.

    Source: YOLOv9, arXiv 2402.13616, and models/common.py of WongKinYiu/yolov9, which ultralytics follows.
    Raises ValueError for odd numbers of channels, and at a call for other channels or fewer than 2 x 2 pixels.
    """

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        for name, channels in (("c1", c1), ("c2", c2)):
            if channels < 2 or channels % 2:
                raise ValueError(f"{name}: its halves are treated apart, expected an even number, got {channels}")
        self.c = c2 // 2
        self.cv1 = NormedConv(c1 // 2, self.c, 3, 2)
        self.cv2 = NormedConv(c1 // 2, self.c, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, c1, H, W) -> (N, c2, H//2, W//2)."""
        check_image("ADown", x, 2 * self.cv1.conv.in_channels)
        if x.shape[2] < 2 or x.shape[3] < 2:
            raise ValueError(f"x: expected at least 2 x 2 pixels, got {x.shape[2]} x {x.shape[3]}")
        first, second = F.avg_pool2d(x, 2, 1).chunk(2, 1)
        return torch.cat((self.cv1(first), self.cv2(F.max_pool2d(second, 3, 2, 1))), 1)


def _cost(dims: Dims) -> Cost:
    """(9 + 1) C/2 * O/2 weights, each used once for a pixel of the output; two norms have 2O parameters."""
    C, outputs = dims["C"], dims["O"]
    pixels = dims["N"] * (dims["H"] // 2) * (dims["W"] // 2)
    weights = 10 * (C // 2) * (outputs // 2)
    params, macs = weights + 2 * outputs, weights * pixels
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=(4 * C + outputs) * pixels + params)


def _requires(dims: Dims) -> str | None:
    for name in ("C", "O"):
        if dims[name] % 2:
            return f"{name}={dims[name]}: the halves of the channels are treated apart, expected an even number"
    return even(dims)


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    return ADown(dims["C"], dims["O"])


CONSTRUCTOR = Constructor(
    settings={"c1": (4, 2, 6, 8), "c2": (4, 8, 6)},
    aliases={"channels": "c1"},
    definition=lambda settings, tensors, training: adown_definition(tensors, training),
    channels="c2",
    inputs="c1",
    blocks=2,
)

OPERATOR = Operator(
    name="adown",
    task=DOWNSAMPLE2X.name,
    title="ADown: averaged, half strided, half pooled",
    source="YOLOv9, arXiv 2402.13616; WongKinYiu/yolov9",
    module=_module,
    definition=lambda dims, tensors, training: adown_definition(tensors, training),
    cost=_cost,
    requires=_requires,
    classes=(ADown,),
    show="opbench.operators.adown.show:drawn",
    constructor=CONSTRUCTOR,
)
OPERATORS = (OPERATOR,)
