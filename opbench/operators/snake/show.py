"""Dynamic snake convolution on an image: the two snakes of some output pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from opbench.drawings import Drawing, Shot
from opbench.operators.common.show import Recorder, SampleLine, draw, of_samples, points
from opbench.operators.snake.module import DySnakeConv
from opbench.report.show.image import features
from opbench.report.show.shots import note, places
from opbench.report.show.weights import Core, Makers, State, computed, module_of

CHANNELS, SAMPLES = 64, 9  # of a module that no file gives: the paper's snakes


def made(core: Core) -> nn.Module:
    """The module that is shown where no file gives one."""
    return DySnakeConv(CHANNELS, CHANNELS, SAMPLES, implementation=core)


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """Both snakes of some output pixels of `image` (H, W, 3)."""
    core = Recorder(of_samples)
    module = module_of(shot, "snake", lambda: made(core), MAKERS, core)
    assert isinstance(module, DySnakeConv)
    snakes = (module.conv_x, module.conv_y)
    channels, k = module.conv_x.offset_conv.in_channels, module.conv_x.kernel_size
    x = features(image, channels, shot.seed)
    words = note(shot, channels)
    if not shot.weights and not shot.fresh:
        with torch.no_grad():
            for snake in snakes:
                snake.gn_offset.weight.fill_(shot.spread)
        words += f", swings of a deviation of {shot.spread:g} before tanh"
    with torch.no_grad():
        module(x)
    for rows, columns, _ in core.calls:
        computed(rows, "offsets")
        computed(columns, "offsets")
    swung = [(rows, columns) for rows, columns, _ in core.calls]
    straight = [snake.places(torch.zeros(1, 2 * k, *image.shape[:2])) for snake in snakes]
    queries = [
        (
            row,
            column,
            [
                SampleLine(f"along {axis}", points(*lies, row, column), points(*swings, row, column), joined=True)
                for axis, lies, swings in zip("xy", straight, swung, strict=True)
            ],
        )
        for row, column in places(shot.at, *image.shape[:2])
    ]
    return draw(f"Dynamic snake convolution: two snakes of {k} samples an output pixel", words, image, queries)


def _module(state: State, core: Core) -> nn.Module:
    outputs, inputs, samples, _ = state["conv_x.dsc_conv_x.weight"].shape
    return DySnakeConv(inputs, outputs, samples, fuse="conv_1x1.conv.weight" in state, implementation=core)


MAKERS: Makers = {"conv_x.dsc_conv_x.weight": _module}
