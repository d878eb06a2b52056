"""The 3x3 convolution of stride 2 by which networks halve an image, and its plain rivals. Dimensions N C H W O.

Without biases and norms: a norm follows in every network that the workloads come from, and stays around the slot.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from opbench.operators.common.definitions import convolution, depthwise
from opbench.operators.common.linear_terms import multilinear
from opbench.schema import Cost, Dims, Implementation, Operator, Tensors
from opbench.tasks import DOWNSAMPLE2X as TASK
from opbench.tasks import halved

TORCH = {"torch": Implementation("torch", note="torch.nn.Conv2d")}


class Strided(NamedTuple):
    """Channels in and out, and how many pixels all images have after the slot."""

    channels: int
    outputs: int
    pixels: int


def _operator(
    name: str,
    title: str,
    source: str,
    module: Callable[[int, int], nn.Module],
    definition: Callable[[Tensors], Tensor],
    weights: Callable[[Strided], int],
    counts: Callable[[Strided], dict[str, int]],
) -> Operator:
    """`weights` are both the parameters and the MACs per output pixel: each is used once for one."""

    def define(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
        return definition(tensors)

    def sizes(dims: Dims) -> Strided:
        height, width = halved(dims)
        return Strided(dims["C"], dims["O"], dims["N"] * height * width)

    def cost(dims: Dims) -> Cost:
        size = sizes(dims)
        params = weights(size)
        macs = params * size.pixels
        read = dims["N"] * dims["C"] * dims["H"] * dims["W"]
        return Cost(
            params=params, macs=macs, macs_backward=2 * macs, elements=read + size.outputs * size.pixels + params
        )

    return Operator(
        name=name,
        task=TASK.name,
        title=title,
        source=source,
        module=lambda dims, implementation: module(dims["C"], dims["O"]),
        definition=define,
        cost=cost,
        implementations=TORCH,
        magnitude=multilinear(define, lambda dims: counts(sizes(dims))),
    )


def _depthwise_separable(channels: int, outputs: int) -> nn.Module:
    depthwise_layer = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)
    pointwise_layer = nn.Conv2d(channels, outputs, 1, bias=False)
    return nn.Sequential(OrderedDict[str, nn.Module](depthwise=depthwise_layer, pointwise=pointwise_layer))


CONV3X3 = _operator(
    "conv3x3-stride2",
    "3x3 convolution of stride 2",
    "torch.nn.Conv2d(C, O, 3, stride=2, padding=1, bias=False)",
    module=lambda channels, outputs: nn.Conv2d(channels, outputs, 3, stride=2, padding=1, bias=False),
    definition=lambda tensors: convolution(tensors["x"], tensors["weight"], stride=2),
    weights=lambda size: 9 * size.channels * size.outputs,
    # A pixel of x lies in at most four windows of stride 2.
    counts=lambda size: {"output": 9 * size.channels, "x": 4 * size.outputs, "weight": size.pixels},
)

DEPTHWISE = _operator(
    "depthwise-stride2",
    "depthwise 3x3 of stride 2, then pointwise convolution",
    "MobileNet, arXiv 1704.04861, without the norm between",
    module=_depthwise_separable,
    definition=lambda tensors: convolution(
        depthwise(tensors["x"], tensors["depthwise.weight"], stride=2), tensors["pointwise.weight"]
    ),
    weights=lambda size: 9 * size.channels + size.channels * size.outputs,
    counts=lambda size: {
        "output": 9 * size.channels,
        "x": 4 * size.outputs,
        "depthwise.weight": size.outputs * size.pixels,
        "pointwise.weight": 9 * size.pixels,
    },
)

OPERATORS = (CONV3X3, DEPTHWISE)
