"""VoVGSCSP as it competes in the slot conv3x3, with all its channels kept: settings n and shuffle."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from opbench.constructors import Constructor, Settings
from opbench.operators.gsconv.block import VoVGSCSP, unfit
from opbench.operators.gsconv.block_definition import vovgscsp_definition
from opbench.operators.gsconv.cores import CORES
from opbench.operators.gsconv.cost import block_cost, block_layer
from opbench.schema import Dims, Implementation, Operator, Tensors
from opbench.tasks import CONV3X3


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    chosen = implementation.function or implementation.name
    return VoVGSCSP(dims["C"], dims["C"], dims["n"], shuffle=dims["shuffle"], implementation=chosen)


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return vovgscsp_definition(tensors, training, n=dims["n"], shuffle=dims["shuffle"])


def _constructed(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    return vovgscsp_definition(tensors, training, n=settings["n"], act=settings["act"], shuffle=settings["shuffle"])


def _requires(dims: Dims) -> str | None:
    if dims["n"] < 1:
        return f"n={dims['n']}: expected at least one bottleneck"
    return unfit(dims["C"], 0.5) or None


def _in_place(kind: type[nn.Module], site: Any, implementation: object) -> nn.Module:
    """In the place of a 3x3 convolution or of a block around one; the channels may differ."""
    if site.window() != (3, 1):
        raise site.refused(f"VoVGSCSP takes the place of a 3x3 window, got (k, d) = {site.window()}")
    if reason := unfit(site.out_channels, 0.5):
        raise site.refused(reason)
    return kind(site.in_channels, site.out_channels, implementation=implementation)


BLOCK = Operator(
    name="vov-gsconv",
    task=CONV3X3.name,
    title="VoVGSCSP, a block of GSConvs",
    source="Slim-neck by GSConv, arXiv 2206.02424; gsconv-yolov5 of AlanLi1997/slim-neck-by-gsconv",
    module=_module,
    definition=_definition,
    cost=block_cost,
    implementations=CORES,
    settings={"n": 1, "shuffle": "parity"},
    draws={"n": (1, 2), "shuffle": ("parity", "halves")},
    requires=_requires,
    preferred=CORES.automatic,
    classes=(VoVGSCSP,),
    constructor=Constructor(
        settings={
            "c1": (4, 8, 6),
            "c2": (8, 4, 12),
            "n": (1, 2),
            "shortcut": (True, False),
            "g": (1,),
            "e": (0.5, 1.0),
            "act": (True, False),
            "shuffle": ("parity", "halves"),
        },
        definition=_constructed,
        channels="c2",
        inputs="c1",
    ),
    replaces=_in_place,
    layer=block_layer,
    relations="opbench.operators.gsconv.relations:BLOCK_RELATIONS",
)
