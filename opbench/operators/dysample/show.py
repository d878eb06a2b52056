"""DySample on an image: where the children of some pixels start, and where each group of channels samples for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from opbench.drawings import Drawing, Shot
from opbench.operators.common.show import Point, Recorder, SampleLine, draw
from opbench.operators.dysample.module import DySample
from opbench.report.show.image import features
from opbench.report.show.shots import note, places
from opbench.report.show.weights import Core, Makers, State, computed, module_of
from opbench.tasks import spread_offsets

CHANNELS = 64  # of a module that no file gives


def made(core: Core) -> nn.Module:
    """The module that is shown where no file gives one."""
    return DySample(CHANNELS, implementation=core)


def upsampled(x: Tensor, offset: Tensor, *, scale: int, groups: int) -> tuple[int, ...]:
    """The output's shape of DySample's sampling."""
    return *x.shape[:2], scale * x.shape[2], scale * x.shape[3]


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """DySample's samples of the children of some pixels of `image` (H, W, 3)."""
    core = Recorder(upsampled)
    module = module_of(shot, "dysample", lambda: made(core), MAKERS, core)
    assert isinstance(module, DySample)
    x = features(image, module.in_channels, shot.seed)
    words = note(shot, module.in_channels)
    if not shot.weights and not shot.fresh:
        spread_offsets(module.offset, slice(None), x, 4 * shot.spread, torch.Generator().manual_seed(shot.seed))
        words += f", offsets spread by {shot.spread:g} px"
    with torch.no_grad():
        module(x)
    offset = computed(core.calls[0][0], "offsets")
    groups, children = module.groups, module.scale**2
    queries = []
    for row, column in places(shot.at, *image.shape[:2]):
        starts, ends = (
            [_points(moves[:, group], row, column) for group in range(groups)]
            for moves in (
                module.init_pos.view(2, groups, children),
                offset[0, :, row, column].view(2, groups, children),
            )
        )
        lines = [SampleLine(f"group {g}", starts[g], ends[g]) for g in range(groups)]
        queries.append((row, column, lines))
    title = f"DySample: where the {children} output pixels of an input pixel are sampled"
    return draw(title, words, image, queries, "input pixel")


def _points(moves: Tensor, row: int, column: int) -> list[Point]:
    """moves (x and y, children) -> where they lead from a pixel."""
    return [(column + x, row + y) for x, y in moves.T.tolist()]


# --- The module of a state dict: scale 2 and the published groups, as nothing in it tells them apart ---------------


def _module(state: State, core: Core) -> nn.Module:
    weight, starts = state["offset.weight"], state["init_pos"]
    if starts.shape[1] % 8:
        raise ValueError(f"init_pos: expected (1, 8*groups, 1, 1) of scale 2, got {tuple(starts.shape)}")
    style = "lp" if weight.shape[0] == starts.shape[1] else "pl"
    channels = weight.shape[1] * (4 if style == "pl" else 1)
    module = DySample(channels, 2, style, starts.shape[1] // 8, "scope.weight" in state, implementation=core)
    if "scope.bias" in state:
        assert module.scope is not None
        module.scope.bias = nn.Parameter(torch.zeros_like(module.offset.bias))  # type: ignore[arg-type]
    return module


MAKERS: Makers = {"init_pos": _module}
