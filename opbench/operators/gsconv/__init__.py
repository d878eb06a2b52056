"""GSConv (slim-neck, arXiv 2206.02424): half the channels by a convolution, half from these by a depthwise one.

GSConv(c1, c2, k=1, s=1, p=None, g=1, d=1, act=True, *, shuffle="halves")   channels first
VoVGSCSP(c1, c2, n=1, shortcut=True, g=1, e=0.5, *, shuffle="parity")        the block around it in a slim neck
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from opbench.constructors import Constructor, Settings
from opbench.operators.gsconv.block import GSBottleneck, VoVGSCSP
from opbench.operators.gsconv.block_definition import vovgscsp_definition
from opbench.operators.gsconv.block_operator import BLOCK
from opbench.operators.gsconv.cores import CORES
from opbench.operators.gsconv.cost import layer, module_cost
from opbench.operators.gsconv.definition import gsconv_definition
from opbench.operators.gsconv.module import GSConv
from opbench.schema import Dims, Implementation, Operator, Tensors
from opbench.tasks import CONV3X3

__all__ = ["CORES", "OPERATORS", "GSBottleneck", "GSConv", "VoVGSCSP", "gsconv_definition", "vovgscsp_definition"]


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return gsconv_definition(tensors["x"], tensors, training, shuffle=dims["shuffle"])


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    chosen = implementation.function or implementation.name
    return GSConv(dims["C"], dims["C"], 3, shuffle=dims["shuffle"], implementation=chosen)


def _constructed(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    window = {"stride": settings["s"], "pad": settings["p"], "groups": settings["g"]}
    return gsconv_definition(
        tensors["x"], tensors, training, **window, act=settings["act"], shuffle=settings["shuffle"]
    )


def _requires(dims: Dims) -> str | None:
    C = dims["C"]
    return None if C % 2 == 0 else f"C={C} channels: expected an even number, half of them by each convolution"


def _in_place(kind: type[nn.Module], site: Any, implementation: object) -> nn.Module:
    """In the place of an nn.Conv2d or of a block around one; the channels may differ."""
    kernel_size, dilation = site.window()
    if dilation != 1:
        raise site.refused(f"GSConv has no dilation, the module there has dilation={dilation}")
    if site.out_channels % 2:
        raise site.refused(f"GSConv makes an even number of channels, the module there {site.out_channels}")
    return kind(site.in_channels, site.out_channels, kernel_size, implementation=implementation)


CONSTRUCTOR = Constructor(
    settings={
        "c1": (4, 8, 12),
        "c2": (8, 4, 12),
        "k": (1, 3, 5),
        "s": (1, 2),
        "p": (None,),
        "g": (1, 2),
        "d": (1,),
        "act": (True, False),
        "shuffle": ("halves", "parity"),
    },
    definition=_constructed,
    channels="c2",
    inputs="c1",
    groups="g",
)  # fmt: skip

OPERATOR = Operator(
    name="gsconv",
    task=CONV3X3.name,
    title="GSConv",
    source="Slim-neck by GSConv, arXiv 2206.02424; AlanLi1997/slim-neck-by-gsconv",
    module=_module,
    definition=_definition,
    cost=module_cost,
    implementations=CORES,
    settings={"shuffle": "halves"},
    draws={"shuffle": ("halves", "parity")},
    requires=_requires,
    preferred=CORES.automatic,
    classes=(GSConv,),
    constructor=CONSTRUCTOR,
    replaces=_in_place,
    layer=layer,
    relations="opbench.operators.gsconv.relations:RELATIONS",
    show="opbench.operators.gsconv.show:drawn",
)
OPERATORS = (OPERATOR, BLOCK)
