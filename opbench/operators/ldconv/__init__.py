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
from opbench.operators.common.clamped.cost import COUNTING, FORMULAS
from opbench.operators.common.clamped.definition import clamped_definition
from opbench.operators.ldconv.cores import CORES
from opbench.operators.ldconv.cost import downsampling_cost, layer, module_cost
from opbench.operators.ldconv.definition import initial_shape, ldconv_definition
from opbench.operators.ldconv.module import AKConv, LDConv, shifts
from opbench.schema import Dims, Implementation, Operator, Tensors
from opbench.tasks import CONV3X3, DOWNSAMPLE2X, offset_figures, spread_offsets

__all__ = ["CORES", "OPERATOR", "OPERATORS", "AKConv", "LDConv", "initial_shape", "ldconv_definition"]

# As many samples as a 3x3 convolution has taps, so that the two differ in nothing but where they sample. Write-ups for
# YOLOv8 take 3 to 6, the paper's tables 3 to 14.
SAMPLES = 9


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    return LDConv(dims["C"], dims["C"], dims["num_param"], implementation=implementation.function or "auto")


def _downsampling(dims: Dims, implementation: Implementation) -> nn.Module:
    return LDConv(dims["C"], dims["O"], dims["num_param"], 2, implementation=implementation.function or "auto")


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return ldconv_definition(tensors, training, num_param=dims["num_param"])


def _downsampling_definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return ldconv_definition(tensors, training, num_param=dims["num_param"], stride=2)


def _prepare(module: nn.Module, dims: Dims, spread: float, generator: torch.Generator, x: Tensor) -> None:
    assert isinstance(module, LDConv)
    spread_offsets(module.p_conv, slice(None), x, spread, generator)


def _in_place(kind: type[nn.Module], site: Any, implementation: object) -> nn.Module:
    """In the place of an nn.Conv2d or of a block around one, with as many samples as that has taps."""
    if site.halves:
        return kind(site.in_channels, site.out_channels, SAMPLES, 2, implementation=implementation)
    kernel_size, dilation = site.window()
    if dilation != 1:
        raise site.refused(f"LDConv's samples start one pixel apart, the convolution's taps are {dilation} apart")
    return kind(site.in_channels, site.out_channels, kernel_size**2, implementation=implementation)


def _learnt(module: nn.Module, tensors: Sequence[Tensor]) -> dict[str, float]:
    assert isinstance(module, LDConv)
    return offset_figures(shifts(module, tensors[1], tensors[2]))


def _constructed(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    return ldconv_definition(tensors, training, num_param=settings["num_param"], stride=settings["stride"])


CONSTRUCTOR = Constructor(
    settings={
        "inc": (4, 8, 6, 68),
        "outc": (8, 4, 5),
        "num_param": (SAMPLES, 5, 4, 1, 13),
        "stride": (1, 2, 3),
        "bias": (None, True),
    },
    aliases={"num_params": "num_param"},
    definition=_constructed,
    channels="outc",
    inputs="inc",
)  # fmt: skip


def _operator(task: str, title: str, **declared: Any) -> Operator:
    return Operator(
        name="ldconv",
        task=task,
        title=title,
        source="LDConv, arXiv 2311.11587, and CV-ZhangXin/LDConv's model.py",
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
        preferred=CORES.automatic,
        classes=(LDConv,),
        aliases=("AKConv",),
        core_definition=clamped_definition,
        constructor=CONSTRUCTOR,
        replaces=_in_place,
        layer=layer,
        learnt=_learnt,
        **declared,
    )


OPERATOR = _operator(
    CONV3X3.name,
    "LDConv (AKConv), num_param samples",
    module=_module,
    definition=_definition,
    cost=module_cost,
    show="opbench.operators.ldconv.show:drawn",
)
DOWNSAMPLING = _operator(
    DOWNSAMPLE2X.name,
    "LDConv (AKConv) of stride 2, num_param samples",
    module=_downsampling,
    definition=_downsampling_definition,
    cost=downsampling_cost,
)
OPERATORS = (OPERATOR, DOWNSAMPLING)
