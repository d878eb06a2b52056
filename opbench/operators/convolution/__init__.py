"""The 3x3 convolution that deformable operators want to replace, and its cheap rigid rivals. Dimensions N C H W.

None has a bias: a norm follows in every network that the workloads come from.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from opbench.operators.common.definitions import convolution, depthwise
from opbench.operators.common.linear_terms import multilinear
from opbench.schema import Cost, Dims, Implementation, Operator, Tensors
from opbench.tasks import CONV3X3 as TASK

TORCH = {"torch": Implementation("torch", note="torch.nn.Conv2d")}


def _operator(
    name: str,
    title: str,
    source: str,
    module: Callable[[int], nn.Module],
    definition: Callable[[Tensors], Tensor],
    weights: Callable[[int], int],
    counts: Callable[[Dims], dict[str, int]],
) -> Operator:
    """`weights(C)` are both the parameters and the MACs per pixel: a convolution uses every weight once a pixel."""

    def define(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
        return definition(tensors)

    def cost(dims: Dims) -> Cost:
        C, pixels = dims["C"], dims["N"] * dims["H"] * dims["W"]
        params = weights(C)
        macs = params * pixels
        return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=2 * C * pixels + params)

    return Operator(
        name=name,
        task=TASK.name,
        title=title,
        source=source,
        module=lambda dims, implementation: module(dims["C"]),
        definition=define,
        cost=cost,
        implementations=TORCH,
        magnitude=multilinear(define, counts),
    )


def _depthwise_separable(channels: int) -> nn.Module:
    depthwise_layer = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    pointwise_layer = nn.Conv2d(channels, channels, 1, bias=False)
    return nn.Sequential(OrderedDict[str, nn.Module](depthwise=depthwise_layer, pointwise=pointwise_layer))


def _pixels(dims: Dims) -> int:
    return int(dims["N"] * dims["H"] * dims["W"])


CONV3X3 = _operator(
    "conv3x3",
    "3x3 convolution",
    "torch.nn.Conv2d(C, C, 3, padding=1, bias=False)",
    module=lambda C: nn.Conv2d(C, C, 3, padding=1, bias=False),
    definition=lambda tensors: convolution(tensors["x"], tensors["weight"]),
    weights=lambda C: 9 * C * C,
    counts=lambda dims: {"output": 9 * dims["C"], "x": 9 * dims["C"], "weight": _pixels(dims)},
)

DEPTHWISE = _operator(
    "depthwise3x3",
    "depthwise 3x3 convolution",
    "torch.nn.Conv2d(C, C, 3, padding=1, groups=C, bias=False)",
    module=lambda C: nn.Conv2d(C, C, 3, padding=1, groups=C, bias=False),
    definition=lambda tensors: depthwise(tensors["x"], tensors["weight"]),
    weights=lambda C: 9 * C,
    counts=lambda dims: {"output": 9, "x": 9, "weight": _pixels(dims)},
)

SEPARABLE = _operator(
    "depthwise-separable",
    "depthwise 3x3 then pointwise convolution",
    "MobileNet, arXiv 1704.04861, without the norms between",
    module=_depthwise_separable,
    definition=lambda tensors: convolution(
        depthwise(tensors["x"], tensors["depthwise.weight"]), tensors["pointwise.weight"]
    ),
    weights=lambda C: 9 * C + C * C,
    counts=lambda dims: {
        "output": 9 * dims["C"],
        "x": 9 * dims["C"],
        "depthwise.weight": dims["C"] * _pixels(dims),
        "pointwise.weight": 9 * _pixels(dims),
    },
)

OPERATORS = (CONV3X3, DEPTHWISE, SEPARABLE)
