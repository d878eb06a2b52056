"""LDConv on an image: where the samples of some output pixels start, and where their offsets put them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opbench.operators.common.show import SampleLine, Sampler, no_samples, points, spread_by
from opbench.operators.ldconv.module import LDConv
from opbench.report.show.weights import Core, State

CHANNELS, SAMPLES = 64, 9  # of a module that no file gives


def _lines(module: LDConv, calls: Sequence[tuple[Tensor, ...]], row: int, column: int) -> list[SampleLine]:
    _, rows, columns, _ = calls[0]
    straight = module.places(torch.zeros(1, 2 * module.num_param, *rows.shape[2:]))
    return [SampleLine("samples", points(*straight, row, column), points(rows, columns, row, column))]


# --- The module of a state dict: stride 1, as nothing in it tells the stride ------------------------------------------


def _module(state: State, core: Core) -> nn.Module:
    outputs, inputs, samples, _ = state["conv.0.weight"].shape
    module = LDConv(inputs, outputs, samples, 1, "conv.0.bias" in state, implementation=core)
    if "p_n" not in state:
        module.register_buffer("p_n", module.p_n, persistent=False)
    return module


drawn = Sampler(
    operator="ldconv",
    kind=LDConv,
    made=lambda core: LDConv(CHANNELS, CHANNELS, SAMPLES, implementation=core),
    makers={"p_conv.weight": _module},
    core=no_samples,
    located=2,
    channels=lambda module: module.p_conv.in_channels,
    spread=lambda module, x, shot: spread_by(module.p_conv, x, shot),
    lines=_lines,
    title=lambda module: f"LDConv: where the {module.num_param} samples of an output pixel lie",
)
