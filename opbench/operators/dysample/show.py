"""DySample on an image: where the children of some pixels start, and where each group of channels samples for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opbench.operators.common.show import Point, SampleLine, Sampler, spread_by
from opbench.operators.dysample.module import DySample
from opbench.report.show.weights import Core, State

CHANNELS = 64  # of a module that no file gives


def _upsampled(x: Tensor, offset: Tensor, *, scale: int, groups: int) -> Tensor:
    return x.new_zeros(*x.shape[:2], scale * x.shape[2], scale * x.shape[3])


def _lines(module: DySample, calls: Sequence[tuple[Tensor, ...]], row: int, column: int) -> list[SampleLine]:
    starts, ends = (
        moves.reshape(2, module.groups, module.scale**2) for moves in (module.init_pos, calls[0][1][0, :, row, column])
    )
    return [
        SampleLine(f"group {g}", _points(starts[:, g], row, column), _points(ends[:, g], row, column))
        for g in range(module.groups)
    ]


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


drawn = Sampler(
    operator="dysample",
    kind=DySample,
    made=lambda core: DySample(CHANNELS, implementation=core),
    makers={"init_pos": _module},
    core=_upsampled,
    located=1,
    channels=lambda module: module.in_channels,
    # A fresh scope is a quarter.
    spread=lambda module, x, shot: spread_by(module.offset, x, shot, factor=4),
    lines=_lines,
    title=lambda module: f"DySample: where the {module.scale**2} output pixels of an input pixel are sampled",
    what="input pixel",
)
