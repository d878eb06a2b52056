"""LDConv, linear deformable convolution (arXiv 2311.11587), AKConv before: a convolution of any number of samples.

LDConv(inc, outc, num_param, stride=1, bias=None)   channels first, with batch norm and SiLU
AKConv                                              the same by its earlier name
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from opbench.constructors import Constructor, Settings
from opbench.operators.common.clamped.cores import AUTOMATIC, CORES
from opbench.operators.common.clamped.cost import COUNTING, FORMULAS
from opbench.operators.common.clamped.definition import clamped_definition
from opbench.operators.ldconv.cost import layer, module_cost
from opbench.operators.ldconv.definition import initial_shape, ldconv_definition
from opbench.operators.ldconv.module import AKConv, LDConv, shifts
from opbench.schema import Dims, Implementation, Operator, Tensors
from opbench.tasks import CONV3X3, offset_figures, spread_offsets

__all__ = ["CORES", "OPERATOR", "OPERATORS", "AKConv", "LDConv", "initial_shape", "ldconv_definition"]

# As many samples as a 3x3 convolution has taps, so that the two differ in nothing but where they sample. Write-ups for
# YOLOv8 take 3 to 6, the paper's tables 3 to 14.
SAMPLES = 9


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    assert implementation.function is not None
    return LDConv(
        dims["C"], dims["C"], dims["num_param"], dims.get("stride", 1), implementation=implementation.function
    )


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return ldconv_definition(tensors, training, num_param=dims["num_param"], stride=dims.get("stride", 1))


def _prepare(module: nn.Module, dims: Dims, spread: float, generator: torch.Generator, x: Tensor) -> None:
    assert isinstance(module, LDConv)
    spread_offsets(module.p_conv, slice(None), x, spread, generator)


def _in_place(kind: type[nn.Module], site: Any, implementation: object) -> nn.Module:
    """In the place of an nn.Conv2d or of a block around one, with as many samples as that has taps."""
    kernel_size, dilation = site.window()
    if dilation != 1:
        raise site.refused(f"LDConv's samples start one pixel apart, the convolution's taps are {dilation} apart")
    return kind(site.in_channels, site.out_channels, kernel_size**2, implementation=implementation)


def _learnt(module: nn.Module, tensors: Sequence[Tensor]) -> dict[str, float]:
    assert isinstance(module, LDConv)
    return offset_figures(shifts(module, tensors[1], tensors[2]))


def _constructed(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    return ldconv_definition(tensors, training, num_param=settings["num_param"], stride=settings["stride"])


OPERATOR = Operator(
    name="ldconv",
    task=CONV3X3.name,
    title="LDConv (AKConv), num_param samples",
    source="LDConv, arXiv 2311.11587, and CV-ZhangXin/LDConv's model.py",
    module=_module,
    definition=_definition,
    cost=module_cost,
    settings={"num_param": SAMPLES},
    draws={"num_param": (SAMPLES, 5, 4, 1, 13)},
    deformable=True,
    implementations=CORES,
    prepare=_prepare,
    requires=lambda dims: (
        None if dims["num_param"] >= 1 else f"num_param: expected at least 1, got {dims['num_param']}"
    ),
    counting=COUNTING,
    formulas=FORMULAS,
    preferred=AUTOMATIC,
    classes=(LDConv, AKConv),
    core_definition=clamped_definition,
    constructor=Constructor(
        settings={
            "inc": (4, 8, 6),
            "outc": (8, 4, 5),
            "num_param": (SAMPLES, 5, 4, 1, 13),
            "stride": (1, 2, 3),
            "bias": (None, True),
        },
        aliases={
            "c1": "inc", "c2": "outc", "in_channels": "inc", "out_channels": "outc", "ouc": "outc", "s": "stride",
            "num_params": "num_param",
        },
        definition=_constructed,
        channels="outc",
    ),
    replaces=_in_place,
    layer=layer,
    learnt=_learnt,
)  # fmt: skip
OPERATORS = (OPERATOR,)
