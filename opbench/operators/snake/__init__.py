"""Dynamic snake convolution (ICCV 2023, arXiv 2307.08388): lines of samples that swing to one side and stay in one
piece.

DySnakeConv(inc, ouc, k=3)                  a convolution, a snake along x and one along y, side by side, then fused
DSConv(in_channels, out_channels, ...)      one snake
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from opbench.constructors import Constructor, Settings
from opbench.operators.common.clamped.cores import CORES
from opbench.operators.common.clamped.cost import COUNTING, FORMULAS
from opbench.operators.common.clamped.definition import clamped_definition
from opbench.operators.snake.cost import layer, module_cost
from opbench.operators.snake.definition import branch_definition, snake_definition, swung
from opbench.operators.snake.module import DSConv, DySnakeConv, unfit
from opbench.schema import Dims, Implementation, Operator, Tensors
from opbench.tasks import CONV3X3, SAME, offset_figures

__all__ = [
    "CORES",
    "OPERATOR",
    "OPERATORS",
    "DSConv",
    "DySnakeConv",
    "branch_definition",
    "snake_definition",
    "swung",
]


def _module(dims: Dims, implementation: Implementation) -> nn.Module:
    return DySnakeConv(dims["C"], dims["C"], dims["k"], implementation=implementation.function or "auto")


def _definition(dims: Dims, tensors: Tensors, training: bool) -> Tensor:
    return snake_definition(tensors, training, kernel_size=dims["k"])


def _prepare(module: nn.Module, dims: Dims, spread: float, generator: torch.Generator, x: Tensor) -> None:
    """What goes into tanh deviates by `spread`: a swing is at most a pixel, whatever is asked for.

    At a spread of 0 every swing is that of SAME: off the kink at whole places.
    """
    assert isinstance(module, DySnakeConv)
    with torch.no_grad():
        for snake in (module.conv_x, module.conv_y):
            snake.gn_offset.weight.fill_(spread)
            snake.gn_offset.bias.fill_(0.0 if spread else SAME)


def _in_place(kind: type[nn.Module], site: Any, implementation: object) -> nn.Module:
    """In the place of an nn.Conv2d or of a block around one, with as many samples as that has taps in a row."""
    kernel_size, dilation = site.window()
    if dilation != 1:
        raise site.refused(f"a snake's samples lie one pixel apart, the convolution's taps are {dilation} apart")
    reason = unfit(site.out_channels, kernel_size)
    if reason:
        raise site.refused(reason)
    return kind(site.in_channels, site.out_channels, kernel_size, implementation=implementation)


def _learnt(module: nn.Module, tensors: Sequence[Tensor]) -> dict[str, float]:
    """Of the swings of the snake along x: how far its rows lie off the pixel's."""
    rows = tensors[1]
    swings = rows - torch.arange(rows.shape[2], dtype=rows.dtype, device=rows.device).view(-1, 1)
    return offset_figures(swings.movedim(1, -1).flatten(0, 2))


def _constructed(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
    return snake_definition(tensors, training, kernel_size=settings["k"])


OPERATOR = Operator(
    name="snake",
    task=CONV3X3.name,
    title="dynamic snake convolution, k samples a snake",
    source="Dynamic Snake Convolution, arXiv 2307.08388, equations 1 and 2, and YaoleiQi/DSCNet's DSConv_pro",
    module=_module,
    definition=_definition,
    cost=module_cost,
    settings={"k": 3},
    draws={"k": (3, 5, 9)},
    deformable=True,
    implementations=CORES,
    prepare=_prepare,
    requires=lambda dims: unfit(dims["C"], dims["k"], "C", "k") or None,
    counting=COUNTING,
    formulas=FORMULAS,
    preferred=CORES.automatic,
    classes=(DySnakeConv,),
    core_definition=clamped_definition,
    constructor=Constructor(
        settings={"inc": (4, 8, 6, 68), "ouc": (8, 4, 12), "k": (3, 5, 9)},
        definition=_constructed,
        channels="ouc",
        # One snake of the class that forks paste, which doesn't say along which axis unless it is told.
        supplied={"morph": 0},
    ),
    replaces=_in_place,
    layer=layer,
    learnt=_learnt,
    show="opbench.operators.snake.show:drawn",
)  # fmt: skip
OPERATORS = (OPERATOR,)
