"""ODConv, omni-dimensional dynamic convolution (ICLR 2022): each image is convolved with a kernel that it asks for.

ODConv2d(in_planes, out_planes, kernel_size, stride=1, padding=0, dilation=1, groups=1, reduction=0.0625, kernel_num=4)
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from opbench.constructors import Constructor, Settings, padded_same
from opbench.operators.odconv.cores import CORES
from opbench.operators.odconv.cost import layer, module_cost
from opbench.operators.odconv.definition import odconv_definition
from opbench.operators.odconv.module import ODConv2d
from opbench.schema import Dims, Implementation, Operator, Tensors
from opbench.tasks import CONV3X3

__all__ = ["CORES", "OPERATORS", "ODConv2d", "odconv_definition"]


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return odconv_definition(tensors["x"], tensors, training, padding=1)


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    return ODConv2d(dims["C"], dims["C"], 3, padding=1, implementation=implementation.function or implementation.name)


def _constructed(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    window = {name: settings[name] for name in ("stride", "padding", "dilation", "groups")}
    return odconv_definition(tensors["x"], tensors, training, **window)


def _in_place(kind: type[nn.Module], site: Any, implementation: object) -> nn.Module:
    """In the place of an nn.Conv2d or of a block around one; the channels may differ."""
    if site.halves:
        return kind(site.in_channels, site.out_channels, 3, 2, 1, implementation=implementation)
    k, dilation = site.window()
    pad = dilation * (k - 1) // 2
    return kind(site.in_channels, site.out_channels, k, 1, pad, dilation, implementation=implementation)


CONSTRUCTOR = Constructor(
    settings={
        "in_planes": (4, 8, 12),
        "out_planes": (4, 8, 12),
        "kernel_size": (3, 1, 5),
        "stride": (1, 2),
        "dilation": (1, 2),
        "groups": (1, 2, 4),
        "reduction": (0.0625, 0.5, 3.0),
        "kernel_num": (4, 1, 2),
    },
    aliases={"p": "padding", "K": "kernel_num", "r": "reduction"},
    definition=_constructed,
    channels="out_planes",
    inputs="in_planes",
    groups="groups",
    derived=partial(padded_same, name="padding"),
)  # fmt: skip

OPERATOR = Operator(
    name="odconv",
    task=CONV3X3.name,
    title="ODConv, 4 kernels",
    source="Omni-Dimensional Dynamic Convolution, ICLR 2022, equation 3; OSVAI/ODConv",
    module=_module,
    definition=_definition,
    cost=module_cost,
    implementations=CORES,
    preferred=CORES.automatic,
    classes=(ODConv2d,),
    aliases=("ODConv",),
    constructor=CONSTRUCTOR,
    replaces=_in_place,
    layer=layer,
    relations="opbench.operators.odconv.relations:RELATIONS",
    show="opbench.operators.odconv.show:drawn",
)
OPERATORS = (OPERATOR,)
