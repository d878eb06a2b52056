"""DySample (Liu et al. 2023, arXiv 2308.15085): upsampling by sampling the input where a 1x1 convolution points."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn

from opbench.constructors import Constructor, Settings
from opbench.operators.dysample import definition
from opbench.operators.dysample.cores import CORES
from opbench.operators.dysample.cost import COUNTING, FORMULAS, SCALE, layer, module_cost
from opbench.operators.dysample.function import dysample
from opbench.operators.dysample.module import DySample, unfit
from opbench.schema import Dims, Implementation, Operator, Setting, Tensors
from opbench.tasks import UPSAMPLE2X, offset_figures, spread_offsets

__all__ = ["CORES", "OPERATOR", "OPERATORS", "DySample", "dysample"]

SETTINGS: dict[str, Setting] = {"style": "lp", "groups": 4, "dyscope": False}


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    settings: dict[str, Any] = {name: dims[name] for name in SETTINGS}
    return DySample(dims["C"], SCALE, **settings, implementation=implementation.function or implementation.name)


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return definition.module(tensors, scale=SCALE, style=str(dims["style"]), groups=dims["groups"])


def _constructed(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    return definition.module(tensors, **{name: settings[name] for name in ("scale", "style", "groups")})


def _prepare(module: nn.Module, dims: Dims, spread: float, generator: torch.Generator, x: Tensor) -> None:
    """Draws offsets that deviate by `spread` pixels on x, under the scope that was drawn."""
    assert isinstance(module, DySample)
    features = nn.functional.pixel_shuffle(x, SCALE) if module.style == "pl" else x
    spread_offsets(module.offset, slice(None), features, 4 * spread, generator)
    if spread:
        with torch.no_grad():
            module.offset.weight *= spread / module.moves(x).square().mean().sqrt()


def _in_place(kind: type[nn.Module], site: Any, implementation: object) -> nn.Module:
    """Four groups as published, or as many of them as divide the channels."""
    return kind(site.channels, site.upsampling(), groups=gcd(4, site.channels), implementation=implementation)


def _learnt(module: nn.Module, tensors: Sequence[Tensor]) -> dict[str, float]:
    assert isinstance(module, DySample)
    return offset_figures((tensors[1] - module.init_pos).movedim(1, -1).flatten(0, 2))


OPERATOR = Operator(
    name="dysample",
    task=UPSAMPLE2X.name,
    title="DySample",
    source="Liu et al. 2023, arXiv 2308.15085; module of tiny-smart/dysample",
    module=_module,
    definition=_definition,
    cost=module_cost,
    settings=SETTINGS,
    deformable=True,
    implementations=CORES,
    prepare=_prepare,
    requires=lambda dims: unfit(dims["C"], SCALE, str(dims["style"]), dims["groups"]),
    counting=COUNTING,
    formulas=FORMULAS,
    preferred=CORES.automatic,
    classes=(DySample,),
    replaces=_in_place,
    layer=layer,
    learnt=_learnt,
    core_definition=definition.sampling,
    # Of these channels every style, scale and group takes its part.
    constructor=Constructor(
        settings={
            "in_channels": (16, 32),
            "scale": (2, 1, 4),
            "style": ("lp", "pl"),
            "groups": (4, 1, 2, 8),
            "dyscope": (False, True),
        },
        definition=_constructed,
        channels="in_channels",
        groups="groups",
    ),
    anatomy="opbench.operators.dysample.anatomy:ANATOMY",
    relations="opbench.operators.dysample.relations:RELATIONS",
    show="opbench.operators.dysample.show:drawn",
)
OPERATORS = (OPERATOR,)
