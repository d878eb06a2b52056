"""Partial convolution (FasterNet, arXiv 2303.03667): a 3x3 convolution of the first quarter of the channels.

Partial_conv3(dim, n_div=4, forward="split_cat")   channels first; also named PConv
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from opbench.constructors import Constructor, Settings
from opbench.operators.pconv.cores import CORES
from opbench.operators.pconv.cost import layer, module_cost
from opbench.operators.pconv.definition import pconv_definition
from opbench.operators.pconv.module import Partial_conv3
from opbench.schema import Dims, Implementation, Operator, Tensors
from opbench.tasks import CONV3X3

# What write-ups call it.
PConv = Partial_conv3

__all__ = ["CORES", "OPERATORS", "PConv", "Partial_conv3", "pconv_definition"]


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return pconv_definition(tensors["x"], tensors["partial_conv3.weight"])


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    return Partial_conv3(dims["C"], dims["n_div"], implementation=implementation.function or implementation.name)


def _constructed(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    return pconv_definition(tensors["x"], tensors["partial_conv3.weight"])


def _requires(dims: Dims) -> str | None:
    enough = dims["C"] >= dims["n_div"] >= 1
    return None if enough else f"C={dims['C']} channels: expected at least n_div={dims['n_div']}, one is convolved then"


def _in_place(kind: type[nn.Module], site: Any, implementation: object) -> nn.Module:
    """In the place of a 3x3 convolution that keeps the channels."""
    if site.window() != (3, 1):
        raise site.refused(f"a partial convolution has a 3x3 window without dilation, got (k, d) = {site.window()}")
    return kind(site.channels, implementation=implementation)


CONSTRUCTOR = Constructor(
    settings={"dim": (8, 4, 6, 13), "n_div": (4, 2, 1, 3), "forward": ("split_cat", "slicing")},
    definition=_constructed,
    channels="dim",
)

OPERATOR = Operator(
    name="pconv",
    task=CONV3X3.name,
    title="partial convolution",
    source="FasterNet, arXiv 2303.03667, section 3.2; Partial_conv3 of JierunChen/FasterNet",
    module=_module,
    definition=_definition,
    cost=module_cost,
    implementations=CORES,
    settings={"n_div": 4},
    draws={"n_div": (4, 2, 1)},
    requires=_requires,
    preferred=CORES.automatic,
    classes=(Partial_conv3,),
    aliases=("PConv", "PartialConv"),
    constructor=CONSTRUCTOR,
    replaces=_in_place,
    layer=layer,
    relations="opbench.operators.pconv.relations:RELATIONS",
    show="opbench.operators.pconv.show:drawn",
)
OPERATORS = (OPERATOR,)
