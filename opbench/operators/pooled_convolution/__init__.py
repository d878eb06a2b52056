"""Pooling over 2 x 2 pixels, then a 1x1 convolution: how older networks halve an image. Dimensions N C H W O.

Without norms, which stay around the slot.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from opbench.operators.common.definitions import convolution
from opbench.operators.common.linear_terms import multilinear
from opbench.schema import Cost, Dims, Implementation, Operator, Tensors
from opbench.tasks import DOWNSAMPLE2X, even

TORCH = {"torch": Implementation("torch", note="torch's pooling, then torch.nn.Conv2d")}


def _corners(x: Tensor) -> tuple[Tensor, ...]:
    """x (N, C, H, W), even sizes -> the four pixels of each block, row by row, each (N, C, H/2, W/2)."""
    return x[:, :, ::2, ::2], x[:, :, ::2, 1::2], x[:, :, 1::2, ::2], x[:, :, 1::2, 1::2]


def _mean(x: Tensor) -> Tensor:
    one, two, three, four = _corners(x)
    return (one + two + three + four) / 4


def _largest(x: Tensor) -> Tensor:
    """Of equal pixels the first counts, which its gradient goes to."""
    best, *others = _corners(x)
    for pixel in others:
        best = torch.where(pixel - best > 0, pixel, best)
    return best


def _operator(
    name: str, title: str, source: str, pool: type[nn.Module], reduce: Callable[[Tensor], Tensor]
) -> Operator:
    def module(dims: Dims, implementation: Implementation) -> nn.Module:
        pointwise = nn.Conv2d(dims["C"], dims["O"], 1, bias=False)
        return nn.Sequential(OrderedDict[str, nn.Module](pool=pool(2), pointwise=pointwise))

    def definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
        return convolution(reduce(tensors["x"]), tensors["pointwise.weight"])

    def cost(dims: Dims) -> Cost:
        """CO parameters, each used once for a pixel of the output; pooling multiplies nothing."""
        C, outputs = dims["C"], dims["O"]
        pixels = dims["N"] * (dims["H"] // 2) * (dims["W"] // 2)
        params, macs = C * outputs, C * outputs * pixels
        return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=(4 * C + outputs) * pixels + params)

    def counts(dims: Dims) -> dict[str, int]:
        pixels = dims["N"] * (dims["H"] // 2) * (dims["W"] // 2)
        return {"output": 4 * dims["C"], "x": dims["O"], "pointwise.weight": 4 * pixels}

    return Operator(
        name=name,
        task=DOWNSAMPLE2X.name,
        title=title,
        source=source,
        module=module,
        definition=definition,
        cost=cost,
        requires=even,
        implementations=TORCH,
        # A maximum is no sum.
        magnitude=multilinear(definition, counts) if reduce is _mean else None,
    )


MAX = _operator(
    "maxpool-conv",
    "2x2 maximum, then pointwise convolution",
    "the pooled branch of YOLOv7's MP, arXiv 2207.02696, without its norm",
    nn.MaxPool2d,
    _largest,
)
AVERAGE = _operator(
    "avgpool-conv",
    "2x2 mean, then pointwise convolution",
    "the shortcut of ResNet-D, arXiv 1812.01187, figure 2c, without its norm",
    nn.AvgPool2d,
    _mean,
)
OPERATORS = (MAX, AVERAGE)
