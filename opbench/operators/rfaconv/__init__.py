"""RFAConv, receptive-field attention convolution (arXiv 2304.03198): a 3x3 convolution weighted anew at every pixel.

RFAConv(in_channel, out_channel, kernel_size=3, stride=1)   channels first
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from opbench.constructors import Constructor, Settings
from opbench.operators.rfaconv.cores import CORES
from opbench.operators.rfaconv.cost import halving_cost, layer, module_cost
from opbench.operators.rfaconv.definition import rfaconv_definition
from opbench.operators.rfaconv.module import RFAConv
from opbench.schema import Dims, Implementation, Operator, Tensors
from opbench.tasks import CONV3X3, DOWNSAMPLE2X

__all__ = ["CORES", "OPERATORS", "RFAConv", "rfaconv_definition"]


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return rfaconv_definition(tensors["x"], tensors, training)


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    return RFAConv(dims["C"], dims["C"], implementation=implementation.function or implementation.name)


def _halving_definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return rfaconv_definition(tensors["x"], tensors, training, stride=2)


def _halving_module(dims: Dims, implementation: Implementation) -> nn.Module:
    return RFAConv(dims["C"], dims["O"], 3, 2, implementation=implementation.function or implementation.name)


def _constructed(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    return rfaconv_definition(tensors["x"], tensors, training, stride=settings["stride"], norm=settings["norm"])


def _in_place(kind: type[nn.Module], site: Any, implementation: object) -> nn.Module:
    """In the place of an nn.Conv2d or of a block around one; the channels may differ."""
    if site.halves:
        return kind(site.in_channels, site.out_channels, 3, 2, implementation=implementation)
    kernel_size, dilation = site.window()
    if dilation != 1:
        raise site.refused(f"RFAConv has no dilation, the module there has dilation={dilation}")
    return kind(site.in_channels, site.out_channels, kernel_size, implementation=implementation)


CONSTRUCTOR = Constructor(
    settings={
        "in_channel": (4, 3, 8),
        "out_channel": (4, 6, 1),
        "kernel_size": (3, 1, 5),
        "stride": (1, 2),
        "norm": (True, False),
    },
    definition=_constructed,
    channels="out_channel",
    inputs="in_channel",
)  # fmt: skip

OPERATOR = Operator(
    name="rfaconv",
    task=CONV3X3.name,
    title="RFAConv",
    source="arXiv 2304.03198; the grouped-convolution form of Liuchen1997/RFAConv",
    module=_module,
    definition=_definition,
    cost=module_cost,
    implementations=CORES,
    preferred=CORES.automatic,
    classes=(RFAConv,),
    constructor=CONSTRUCTOR,
    replaces=_in_place,
    layer=layer,
    relations="opbench.operators.rfaconv.relations:RELATIONS",
    show="opbench.operators.rfaconv.show:drawn",
)
# The same function at stride 2, whatever the channels that come out.
DOWNSAMPLING = Operator(
    name="rfaconv",
    task=DOWNSAMPLE2X.name,
    title="RFAConv of stride 2",
    source=OPERATOR.source,
    module=_halving_module,
    definition=_halving_definition,
    cost=halving_cost,
    implementations=CORES,
    preferred=OPERATOR.preferred,
    classes=(RFAConv,),
    layer=layer,
)
OPERATORS = (OPERATOR, DOWNSAMPLING)
