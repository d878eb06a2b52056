"""Dynamic snake convolution on an image: the two snakes of some output pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opbench.drawings import Shot
from opbench.operators.common.show import SampleLine, Sampler, no_samples, points
from opbench.operators.snake.module import DySnakeConv
from opbench.report.show.weights import Core, State

CHANNELS, SAMPLES = 64, 9  # of a module that no file gives: the paper's snakes


def _spread(module: DySnakeConv, x: Tensor, shot: Shot) -> str:
    with torch.no_grad():
        for snake in (module.conv_x, module.conv_y):
            snake.gn_offset.weight.fill_(shot.spread)
    return f", swings of a deviation of {shot.spread:g} before tanh"


def _lines(module: DySnakeConv, calls: Sequence[tuple[Tensor, ...]], row: int, column: int) -> list[SampleLine]:
    lines = []
    for axis, snake, (_, rows, columns, _) in zip("xy", (module.conv_x, module.conv_y), calls, strict=True):
        straight = snake.places(torch.zeros(1, 2 * snake.kernel_size, *rows.shape[2:]))
        starts, ends = points(*straight, row, column), points(rows, columns, row, column)
        lines.append(SampleLine(f"along {axis}", starts, ends, joined=True))
    return lines


def _module(state: State, core: Core) -> nn.Module:
    outputs, inputs, samples, _ = state["conv_x.dsc_conv_x.weight"].shape
    return DySnakeConv(inputs, outputs, samples, fuse="conv_1x1.conv.weight" in state, implementation=core)


drawn = Sampler(
    operator="snake",
    kind=DySnakeConv,
    made=lambda core: DySnakeConv(CHANNELS, CHANNELS, SAMPLES, implementation=core),
    makers={"conv_x.dsc_conv_x.weight": _module},
    core=no_samples,
    located=2,
    channels=lambda module: module.conv_x.offset_conv.in_channels,
    spread=_spread,
    lines=_lines,
    title=lambda module: (
        f"Dynamic snake convolution: two snakes of {module.conv_x.kernel_size} samples an output pixel"
    ),
)
