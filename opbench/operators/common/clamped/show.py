"""Where an output pixel samples an image, as lines of samples around it: for LDConv's and snake's pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from opbench.drawings import Drawing
from opbench.report.drawing import PALETTE
from opbench.report.show.svg import INK, MUTED, element, raster, text

LEFT, TOP, GAP = 48, 116, 40
ZOOM, NEAR, ACROSS = 225, 4, 4
Point = tuple[float, float]


class SampleLine(NamedTuple):
    """Samples of one colour: where each starts and lies, (x, y) in pixels. `joined`: a line from one to the next."""

    name: str
    starts: Sequence[Point]
    ends: Sequence[Point]
    joined: bool = False


class Recorder:
    """A core that keeps where it is told to sample, call by call, and returns zeros."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __call__(self, x: Tensor, rows: Tensor, columns: Tensor, weight: Tensor, **settings: Any) -> Tensor:
        """In the shape of the output."""
        self.calls.append((rows, columns))
        return torch.zeros(x.shape[0], weight.shape[0], *rows.shape[2:])


def points(rows: Tensor, columns: Tensor, row: int, column: int) -> list[Point]:
    """The samples of one output pixel of the first image, (x, y)."""
    return list(zip(columns[0, :, row, column].tolist(), rows[0, :, row, column].tolist(), strict=True))


def draw(
    title: str, words: str, image: np.ndarray, queries: Sequence[tuple[int, int, Sequence[SampleLine]]]
) -> Drawing:
    """The picture of output pixels (row, column) with their samples."""
    black = "black: where a sample starts; coloured: where it lies; hollow: beyond the image, clamped to its border"
    parts = [
        text(LEFT, 32, title, size=18),
        text(LEFT, 52, words, size=12, fill=MUTED),
        text(LEFT, 72, black, size=12, fill=MUTED),
    ]
    for number, line in enumerate(queries[0][2]):
        parts.append(element("circle", cx=LEFT + 6 + 120 * number, cy=90, r=5, fill=PALETTE[number], fill_opacity=0.6))
        parts.append(text(LEFT + 16 + 120 * number, 94, line.name, size=11))
    for index, (row, column, lines) in enumerate(queries):
        at = LEFT + index % ACROSS * (ZOOM + GAP), TOP + 24 + index // ACROSS * (ZOOM + GAP)
        parts += _zoom(image, row, column, *at, lines, f"zoom{index}")
    height = TOP + 24 + -(-len(queries) // ACROSS) * (ZOOM + GAP)
    samples = sum(len(line.ends) for line in queries[0][2])
    described = f"{len(queries)} output pixels, {samples} samples each. {words}"
    return Drawing(title, described, LEFT + ACROSS * (ZOOM + GAP), height, tuple(parts))


def _zoom(
    image: np.ndarray, row: int, column: int, x0: float, y0: float, lines: Sequence[SampleLine], clip: str
) -> Iterator[str]:
    """The pixels around one, paler than they are, and its samples."""
    height, width = image.shape[:2]
    cell = ZOOM // (2 * NEAR + 1)
    top, left = row - NEAR, column - NEAR
    shown_rows, shown_columns = slice(max(0, top), row + NEAR + 1), slice(max(0, left), column + NEAR + 1)
    shown = np.rint(0.45 * image[shown_rows, shown_columns] + 0.55 * 255).astype(np.uint8)
    yield text(x0, y0 - 8, f"output pixel (row {row}, column {column})", size=12)
    yield element("rect", x=x0, y=y0, width=ZOOM, height=ZOOM, fill="#f2f2f2", stroke="#bbbbbb")
    yield raster(shown, x0 + (shown_columns.start - left) * cell, y0 + (shown_rows.start - top) * cell, cell)
    yield element("clipPath", element("rect", x=x0, y=y0, width=ZOOM, height=ZOOM), id=clip)

    def placed(at: Point) -> Point:
        return x0 + (at[0] + 0.5 - left) * cell, y0 + (at[1] + 0.5 - top) * cell

    inside = []
    for number, line in enumerate(lines):
        pairs = zip(line.ends, line.ends[1:], strict=False) if line.joined else zip(line.starts, line.ends, strict=True)
        for a, b in pairs:
            (x1, y1), (x2, y2) = placed(a), placed(b)
            inside.append(element("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=PALETTE[number], stroke_opacity=0.6))
    for number, line in enumerate(lines):
        for end in line.ends:
            there = 0 <= end[0] <= width - 1 and 0 <= end[1] <= height - 1
            fill, (x, y) = PALETTE[number] if there else "none", placed(end)
            inside.append(element("circle", cx=x, cy=y, r=5, fill=fill, fill_opacity=0.6, stroke=PALETTE[number]))
    for start in dict.fromkeys(start for line in lines for start in line.starts):
        x, y = placed(start)
        inside.append(element("rect", x=x - 2, y=y - 2, width=4, height=4, fill=INK))
    yield element("g", *inside, clip_path=f"url(#{clip})")
