"""DySample on an image: where the children of some pixels start, and where each group of channels samples for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from opbench.drawings import Drawing, Shot
from opbench.operators.dysample.module import DySample
from opbench.report.drawing import PALETTE
from opbench.report.show.image import features
from opbench.report.show.shots import note, places
from opbench.report.show.svg import INK, MUTED, element, raster, text
from opbench.report.show.weights import Core, Makers, State, computed, module_of
from opbench.tasks import spread_offsets

LEFT, TOP, GAP = 48, 112, 40
ZOOM, NEAR, ACROSS = 225, 4, 4
BLACK = (
    "black: where they start, as in bilinear interpolation; coloured: where a group samples them; hollow: beyond the "
    "image, whose border continues"
)
CHANNELS = 64  # of a module that no file gives


class Recorder:
    """A core that keeps the offsets it is given, and repeats its input."""

    offset: Tensor | None = None

    def __call__(self, x: Tensor, offset: Tensor, *, scale: int, groups: int) -> Tensor:
        """In the shape of the output."""
        self.offset = offset
        return x.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def made(core: Core) -> nn.Module:
    """The module that is shown where no file gives one."""
    return DySample(CHANNELS, implementation=core)


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """DySample's samples of the children of some pixels of `image` (H, W, 3)."""
    core = Recorder()
    module = module_of(shot, "dysample", lambda: made(core), MAKERS, core)
    assert isinstance(module, DySample)
    x = features(image, module.in_channels, shot.seed)
    words = note(shot, module.in_channels)
    if not shot.weights and not shot.fresh:
        spread_offsets(module.offset, slice(None), x, 4 * shot.spread, torch.Generator().manual_seed(shot.seed))
        words += f", offsets spread by {shot.spread:g} px"
    with torch.no_grad():
        module(x)
    computed(core.offset, "offsets")
    s, g = module.scale, module.groups
    parts = [
        text(LEFT, 32, f"DySample: where the {s * s} output pixels of an input pixel are sampled", size=18),
        text(LEFT, 52, words, size=12, fill=MUTED),
        text(LEFT, 72, BLACK, size=12, fill=MUTED),
        *(part for group in range(g) for part in _key(LEFT + 90 * group, 88, group)),
    ]  # fmt: skip
    queries = places(shot.at, *image.shape[:2])
    for index, (row, column) in enumerate(queries):
        at = LEFT + index % ACROSS * (ZOOM + GAP), TOP + 24 + index // ACROSS * (ZOOM + GAP)
        moves = _samples(core, module, row, column)
        parts += _zoom(image, row, column, *at, module.init_pos.view(2, g, -1), moves, f"zoom{index}")
    height = TOP + 24 + -(-len(queries) // ACROSS) * (ZOOM + GAP)
    described = f"{len(queries)} input pixels, {s * s} output pixels each, {g} groups. {words}"
    return Drawing("DySample sampling points", described, LEFT + ACROSS * (ZOOM + GAP), height, tuple(parts))


def _samples(core: Recorder, module: DySample, row: int, column: int) -> Tensor:
    """(2, groups, s*s): from the centre of an input pixel to the samples of its children, x and y."""
    assert core.offset is not None
    return core.offset[0, :, row, column].view(2, module.groups, -1)


def _key(x: float, y: float, group: int) -> Iterator[str]:
    colour = PALETTE[group % len(PALETTE)]
    yield element("circle", cx=x + 6, cy=y, r=5, fill=colour, fill_opacity=0.6, stroke=colour)
    yield text(x + 16, y + 4, f"group {group}", size=11)


def _zoom(
    image: np.ndarray, row: int, column: int, x0: float, y0: float, start: Tensor, moves: Tensor, clip: str
) -> Iterator[str]:
    """The pixels around one, paler than they are, and its children's samples."""
    height, width = image.shape[:2]
    cell = ZOOM // (2 * NEAR + 1)
    top, left = row - NEAR, column - NEAR
    rows, columns = slice(max(0, top), row + NEAR + 1), slice(max(0, left), column + NEAR + 1)
    shown = np.rint(0.45 * image[rows, columns] + 0.55 * 255).astype(np.uint8)
    yield text(x0, y0 - 8, f"input pixel (row {row}, column {column})", size=12)
    yield element("rect", x=x0, y=y0, width=ZOOM, height=ZOOM, fill="#f2f2f2", stroke="#bbbbbb")
    yield raster(shown, x0 + (columns.start - left) * cell, y0 + (rows.start - top) * cell, cell)
    yield element("clipPath", element("rect", x=x0, y=y0, width=ZOOM, height=ZOOM), id=clip)

    def placed(x: float, y: float) -> tuple[float, float]:
        return x0 + (x + 0.5 - left) * cell, y0 + (y + 0.5 - top) * cell

    inside: list[Any] = []
    for group in range(moves.shape[1]):
        colour = PALETTE[group % len(PALETTE)]
        for (dx, dy), (mx, my) in zip(start[:, group].T.tolist(), moves[:, group].T.tolist(), strict=True):
            (bx, by), (px, py) = placed(column + dx, row + dy), placed(column + mx, row + my)
            inside.append(element("line", x1=bx, y1=by, x2=px, y2=py, stroke=colour, stroke_opacity=0.6))
            there = 0 <= column + mx <= width - 1 and 0 <= row + my <= height - 1
            fill = colour if there else "none"
            inside.append(element("circle", cx=px, cy=py, r=5, fill=fill, fill_opacity=0.6, stroke=colour))
    for dx, dy in start[:, 0].T.tolist():
        bx, by = placed(column + dx, row + dy)
        inside.append(element("rect", x=bx - 2, y=by - 2, width=4, height=4, fill=INK))
    yield element("g", *inside, clip_path=f"url(#{clip})")


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
