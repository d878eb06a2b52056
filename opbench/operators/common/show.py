"""Where a pixel samples an image, as lines of samples around it: for pictures of operators that sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from opbench.drawings import Drawing, Shot
from opbench.report.marks import PALETTE
from opbench.report.show.image import features
from opbench.report.show.shots import note, places
from opbench.report.show.svg import INK, MUTED, element, raster, text
from opbench.report.show.weights import Core, Makers, computed, module_of
from opbench.tasks import spread_offsets

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
    """A core that keeps the tensors it is given, call by call, and the last call's settings, and answers as `core`."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.calls: list[tuple[Tensor, ...]] = []
        self.settings: Mapping[str, Any] = {}

    def __call__(self, *tensors: Tensor, **settings: Any) -> Tensor:
        """As any core is called."""
        self.calls.append(tensors)
        self.settings = settings
        return self.core(*tensors, **settings)


def no_samples(x: Tensor, rows: Tensor, columns: Tensor, weight: Tensor, **settings: Any) -> Tensor:
    """Zeros in the shape of the convolution of clamped samples."""
    return x.new_zeros(x.shape[0], weight.shape[0], *rows.shape[2:])


def points(rows: Tensor, columns: Tensor, row: int, column: int) -> list[Point]:
    """The samples of one output pixel of the first image, (x, y)."""
    return list(zip(columns[0, :, row, column].tolist(), rows[0, :, row, column].tolist(), strict=True))


Layer = TypeVar("Layer", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Sampler(Generic[Layer]):
    """An operator whose module hands its core where to sample, as `opbench show` draws it.

    operator    its name; `kind` is the class of its module
    made        the module around a core that is shown where no file gives one; `makers` are for those that do
    core        something of the core's output's shape, given what the core is; its arguments behind x, so many as are
                `located`, say where samples lie
    channels    of the module's input
    spread      displaces the samples of a module that no file gives on its features, and says so in words
    lines       the samples of the output pixel at a row and column, from all that the module's cores were given
    title       of the picture; `what` its pixels are
    """

    operator: str
    kind: type[Layer]
    made: Callable[[Core], nn.Module]
    makers: Makers
    core: Core
    located: int
    channels: Callable[[Layer], int]
    spread: Callable[[Layer, Tensor, Shot], str]
    lines: Callable[[Layer, Sequence[tuple[Tensor, ...]], int, int], Sequence[SampleLine]]
    title: Callable[[Layer], str]
    what: str = "output pixel"

    def __call__(self, shot: Shot, image: np.ndarray) -> Drawing:
        """Samples of some pixels of `image` (H, W, 3)."""
        core = Recorder(self.core)
        module = module_of(shot, self.operator, lambda: self.made(core), self.makers, core)
        assert isinstance(module, self.kind)
        channels = self.channels(module)
        x = features(image, channels, shot.seed)
        words = note(shot, channels)
        if not shot.weights and not shot.fresh:
            words += self.spread(module, x, shot)
        with torch.no_grad():
            module(x)
        for call in core.calls:
            for places_of_samples in call[1 : 1 + self.located]:
                computed(places_of_samples, "offsets")
        queries = [
            (row, column, self.lines(module, core.calls, row, column))
            for row, column in places(shot.at, *image.shape[:2])
        ]
        return draw(self.title(module), words, image, queries, self.what)


def spread_by(layer: nn.Conv2d, x: Tensor, shot: Shot, factor: float = 1.0) -> str:
    """Offsets that a layer predicts, `factor` times as large as they come to be, spread as the shot asks."""
    spread_offsets(layer, slice(None), x, factor * shot.spread, torch.Generator().manual_seed(shot.seed))
    return f", offsets spread by {shot.spread:g} px"


def draw(
    title: str,
    words: str,
    image: np.ndarray,
    queries: Sequence[tuple[int, int, Sequence[SampleLine]]],
    what: str = "output pixel",
) -> Drawing:
    """The picture of pixels (row, column), output pixels unless they are said to be others, with their samples."""
    black = "black: where a sample starts; coloured: where it lies; hollow: beyond the image, clamped to its border"
    parts = [
        text(LEFT, 32, title, size=18),
        text(LEFT, 52, words, size=12, fill=MUTED),
        text(LEFT, 72, black, size=12, fill=MUTED),
    ]
    for number, line in enumerate(queries[0][2]):
        colour = _colour(number)
        parts.append(element("circle", cx=LEFT + 6 + 120 * number, cy=90, r=5, fill=colour, fill_opacity=0.6))
        parts.append(text(LEFT + 16 + 120 * number, 94, line.name, size=11))
    for index, (row, column, lines) in enumerate(queries):
        at = LEFT + index % ACROSS * (ZOOM + GAP), TOP + 24 + index // ACROSS * (ZOOM + GAP)
        parts += _zoom(image, f"{what} (row {row}, column {column})", row, column, *at, lines, f"zoom{index}")
    height = TOP + 24 + -(-len(queries) // ACROSS) * (ZOOM + GAP)
    samples = sum(len(line.ends) for line in queries[0][2])
    described = f"{len(queries)} {what}s, {samples} samples each. {words}"
    return Drawing(title, described, LEFT + ACROSS * (ZOOM + GAP), height, tuple(parts))


def _colour(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def _zoom(
    image: np.ndarray, name: str, row: int, column: int, x0: float, y0: float, lines: Sequence[SampleLine], clip: str
) -> Iterator[str]:
    """The pixels around one, paler than they are, and its samples."""
    height, width = image.shape[:2]
    cell = ZOOM // (2 * NEAR + 1)
    top, left = row - NEAR, column - NEAR
    shown_rows, shown_columns = slice(max(0, top), row + NEAR + 1), slice(max(0, left), column + NEAR + 1)
    shown = np.rint(0.45 * image[shown_rows, shown_columns] + 0.55 * 255).astype(np.uint8)
    yield text(x0, y0 - 8, name, size=12)
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
            inside.append(element("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=_colour(number), stroke_opacity=0.6))
    for number, line in enumerate(lines):
        for end in line.ends:
            there = 0 <= end[0] <= width - 1 and 0 <= end[1] <= height - 1
            (x, y), colour = placed(end), _colour(number)
            fill = colour if there else "none"
            inside.append(element("circle", cx=x, cy=y, r=5, fill=fill, fill_opacity=0.6, stroke=colour))
    for start in dict.fromkeys(start for line in lines for start in line.starts):
        x, y = placed(start)
        inside.append(element("rect", x=x - 2, y=y - 2, width=4, height=4, fill=INK))
    yield element("g", *inside, clip_path=f"url(#{clip})")
