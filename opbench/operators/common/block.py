"""YOLO's convolution block, which pasted modules are made of: convolution without bias, batch norm, SiLU."""

from __future__ import annotations

from torch import Tensor, nn

from opbench.operators.common.definitions import convolution, normalised, silu
from opbench.schema import Tensors


class ConvolutionNormActivation(nn.Module):
    """x (N, C, H, W) -> (N, O, Ho, Wo): convolution without bias, batch norm, activation.

    State-dict keys are those of ultralytics' `Conv`: `conv.weight` and `bn.*`.
    """

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.conv = convolution
        self.bn = nn.BatchNorm2d(convolution.out_channels)
        self.act = activation

    def forward(self, x: Tensor) -> Tensor:
        """The three in turn."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class NormedConv(ConvolutionNormActivation):
    """x (N, c1, H, W) -> (N, c2, Ho, Wo): a k x k convolution padded by k//2, batch norm, SiLU."""

    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1) -> None:
        super().__init__(nn.Conv2d(c1, c2, k, s, k // 2, bias=False), nn.SiLU())


def normed(x: Tensor, tensors: Tensors, name: str, training: bool) -> Tensor:
    """x (N, C, H, W) -> the same, batch-normalised by the parameters under `name`, then SiLU."""
    return silu(normalised(x, tensors, name, training))


def normed_convolution(x: Tensor, tensors: Tensors, name: str, training: bool, stride: int = 1) -> Tensor:
    """`NormedConv` from its equations: x (N, C, H, W), parameters under `name` -> (N, O, Ho, Wo)."""
    return normed(convolution(x, tensors[f"{name}.conv.weight"], stride=stride), tensors, f"{name}.bn", training)
