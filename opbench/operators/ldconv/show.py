"""LDConv on an image: where the samples of some output pixels start, and where their offsets put them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from opbench.drawings import Drawing, Shot
from opbench.operators.common.show import Recorder, SampleLine, draw, of_samples, points
from opbench.operators.ldconv.module import LDConv
from opbench.report.show.image import features
from opbench.report.show.shots import note, places
from opbench.report.show.weights import Core, Makers, State, computed, module_of
from opbench.tasks import spread_offsets

CHANNELS, SAMPLES = 64, 9  # of a module that no file gives


def made(core: Core) -> nn.Module:
    """The module that is shown where no file gives one."""
    return LDConv(CHANNELS, CHANNELS, SAMPLES, implementation=core)


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """LDConv's samples of some output pixels of `image` (H, W, 3)."""
    core = Recorder(of_samples)
    module = module_of(shot, "ldconv", lambda: made(core), MAKERS, core)
    assert isinstance(module, LDConv)
    channels = module.p_conv.in_channels
    x = features(image, channels, shot.seed)
    words = note(shot, channels)
    if not shot.weights and not shot.fresh:
        spread_offsets(module.p_conv, slice(None), x, shot.spread, torch.Generator().manual_seed(shot.seed))
        words += f", offsets spread by {shot.spread:g} px"
    with torch.no_grad():
        module(x)
    rows, columns = (computed(at, "offsets") for at in core.calls[0][:2])
    straight = module.places(torch.zeros(1, 2 * module.num_param, *rows.shape[2:]))
    queries = [
        (row, column, [SampleLine("samples", points(*straight, row, column), points(rows, columns, row, column))])
        for row, column in places(shot.at, *image.shape[:2])
    ]
    return draw(f"LDConv: where the {module.num_param} samples of an output pixel lie", words, image, queries)


# --- The module of a state dict: stride 1, as nothing in it tells the stride ------------------------------------------


def _module(state: State, core: Core) -> nn.Module:
    outputs, inputs, samples, _ = state["conv.0.weight"].shape
    module = LDConv(inputs, outputs, samples, 1, "conv.0.bias" in state, implementation=core)
    if "p_n" not in state:
        module.register_buffer("p_n", module.p_n, persistent=False)
    return module


MAKERS: Makers = {"p_conv.weight": _module}
