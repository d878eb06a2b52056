"""EUCB, the efficient up-convolution block of EMCAD (CVPR 2024): nearest, depthwise 3x3, batch norm, ReLU, 1x1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from opbench.constructors import Constructor, Settings
from opbench.operators.eucb import definition
from opbench.operators.eucb.module import ACTIVATIONS, EUCB
from opbench.schema import Cost, Dims, Implementation, Operator, Tensors
from opbench.tasks import UPSAMPLE2X

__all__ = ["EUCB", "OPERATOR", "OPERATORS"]


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    return EUCB(dims["C"], dims["C"], activation=str(dims["activation"]))


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return definition.module(tensors, training, activation=str(dims["activation"]))


def _cost(dims: Dims) -> Cost:
    """9C of the depthwise convolution, 2C of the norm, C^2 + C; four times 9C + C^2 MACs an input pixel."""
    C, pixels = dims["C"], dims["N"] * dims["H"] * dims["W"]
    params, macs = 9 * C + 2 * C + C * C + C + (dims["activation"] == "prelu"), 4 * (9 * C + C * C) * pixels
    return Cost(params=params, macs=macs, macs_backward=2 * macs, elements=5 * C * pixels + params)


def _layer(module: Any, x: Sequence[int], out: Sequence[int]) -> tuple[int, int]:
    """Parameters and MACs of one at any of its arguments."""
    given, made, taps = module.in_channels, module.out_channels, module.up_dwc[1].kernel_size[0] ** 2
    params = (taps + 2 + made) * given + made + (module.activation == "prelu")
    return params, 4 * (taps + made) * given * x[0] * x[2] * x[3]


def _requires(dims: Dims) -> str | None:
    known = ACTIVATIONS
    return None if dims["activation"] in known else f"activation={dims['activation']}: known are {', '.join(known)}"


def _in_place(kind: type[nn.Module], site: Any, implementation: object) -> nn.Module:
    """In the place of what upsamples by two; the channels may differ."""
    if site.upsampling() != 2:
        raise site.refused(f"EUCB upsamples by 2, and this by {site.scale}")
    return kind(site.in_channels, site.out_channels)


def _constructed(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    return definition.module(tensors, training, activation=settings["activation"])


CONSTRUCTOR = Constructor(
    settings={
        "in_channels": (4, 6, 8),
        "out_channels": (4, 8, 6),
        "kernel_size": (3, 1, 5),
        "stride": (1,),
        "activation": ("relu", "relu6", "leakyrelu", "prelu", "gelu", "hswish"),
    },
    definition=_constructed,
    channels="in_channels",
)

OPERATOR = Operator(
    name="eucb",
    task=UPSAMPLE2X.name,
    title="EUCB",
    source="EMCAD, arXiv 2405.06880; module of SLDGroup/EMCAD",
    module=_module,
    definition=_definition,
    cost=_cost,
    settings={"activation": "relu"},
    requires=_requires,
    classes=(EUCB,),
    replaces=_in_place,
    layer=_layer,
    constructor=CONSTRUCTOR,
    show="opbench.operators.eucb.show:drawn",
)
OPERATORS = (OPERATOR,)
