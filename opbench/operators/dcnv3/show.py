"""DCNv3 on an image: where each group of channels samples for one output pixel, and how much each sample counts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from opbench.drawings import Drawing, Shot
from opbench.operators.common.show import Recorder
from opbench.operators.dcnv3.conv3x3 import prepare_dcnv3
from opbench.operators.dcnv3.definition import window
from opbench.operators.dcnv3.module import ChannelsFirstDCNv3, DCNv3
from opbench.report.marks import PALETTE
from opbench.report.show.image import features
from opbench.report.show.shots import note, places
from opbench.report.show.svg import INK, MUTED, axes, element, raster, text
from opbench.report.show.weights import Core, Makers, State, computed, module_of

LEFT, TOP, RIGHT, GAP = 48, 112, 480, 40
ZOOM, NEAR = 228, 5
CHANNELS, GROUPS = 64, 4  # of a module that no file gives
WIDEST = 15.0  # radius of a sample that has all of its group's weight


class Point(msgspec.Struct, frozen=True):
    """A sample of one group, in pixels: where the grid puts it, where the offset moves it, and its weight."""

    group: int
    base: tuple[float, float]
    at: tuple[float, float]
    weight: float


class Query(msgspec.Struct, frozen=True):
    """One output pixel (y, x) and all samples that it is the sum of; (x, y) in `Point`."""

    y: int
    x: int
    points: tuple[Point, ...]


def unsampled(x: Tensor, *located: Tensor, **settings: Any) -> Tensor:
    """In place of a core: at stride 1 with padding "same", output and input have one shape."""
    return x


def made(core: Core) -> nn.Module:
    """The module that is shown where no file gives one."""
    return ChannelsFirstDCNv3(CHANNELS, group=GROUPS, implementation=core)


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """DCNv3's sampling points at some output pixels of `image` (H, W, 3)."""
    core = Recorder(unsampled)
    module = module_of(shot, "dcnv3", lambda: made(core), MAKERS, core)
    assert isinstance(module, DCNv3)
    x = features(image, module.channels, shot.seed)
    moved = ""
    if not shot.weights and not shot.fresh:
        spread_points(module, x, shot.spread, shot.seed)
        moved = f", offsets spread by {shot.spread:g} px"
    found = queries(module, core, x, places(shot.at, *image.shape[:2]))
    return draw(found, image, note(shot, module.channels) + moved)


def spread_points(module: DCNv3, x: Tensor, spread: float, seed: int) -> None:
    """Sets the offsets to deviate by `spread` pixels on x (1, C, H, W), as measurements do."""
    prepare_dcnv3(module, x.permute(0, 2, 3, 1), spread, torch.Generator().manual_seed(seed))


def queries(module: nn.Module, recorder: Recorder, x: Tensor, at: Sequence[tuple[int, int]]) -> tuple[Query, ...]:
    """The samples of output pixels `at` (y, x) for features x (1, C, H, W)."""
    with torch.no_grad():
        module(x)
    _, offset, mask = recorder.calls[-1]
    offset, mask = computed(offset, "offsets"), computed(mask, "weights of samples")
    settings = recorder.settings
    k, dilation, group, scale = (settings[name] for name in ("kernel_size", "dilation", "group", "offset_scale"))
    half = (dilation * (k - 1)) >> 1
    found = []
    for row, column in at:
        offsets = offset[0, row, column].view(group, -1, 2).tolist()
        masks = mask[0, row, column].view(group, -1).tolist()
        # Stride 1 and padding "same": the window's middle lies on the output's own pixel.
        points = tuple(
            Point(
                g,
                (column + (i * dilation - half) * scale, row + (j * dilation - half) * scale),
                (
                    column + (i * dilation - half + offsets[g][p][0]) * scale,
                    row + (j * dilation - half + offsets[g][p][1]) * scale,
                ),
                masks[g][p],
            )
            for g in range(group)
            for p, (i, j) in enumerate(window(k, settings["remove_center"]))
        )
        found.append(Query(row, column, points))
    return tuple(found)


SOFTMAX = "weight of a sample (softmax: a group's sum is 1)"


def draw(
    shown: Sequence[Query], image: np.ndarray, words: str, *, name: str = "DCNv3", weights: str = SOFTMAX
) -> Drawing:
    """The picture, of the operator of this name; `weights` is what the area of a circle means."""
    height, width = image.shape[:2]
    scale = max(1, 384 // max(height, width))
    groups = max(point.group for point in shown[0].points) + 1
    rows = math.ceil(len(shown) / 2)
    bottom = TOP + max(height * scale + 40, rows * (ZOOM + GAP + 22))
    parts = [
        text(LEFT, 32, f"{name}: where one output pixel samples, group by group", size=18),
        text(LEFT, 52, words, size=12, fill=MUTED),
        text(LEFT, TOP - 12, f"input, {height}x{width} pixels; boxes are enlarged on the right", size=12),
        raster(image, LEFT, TOP, scale),
        *axes(LEFT, TOP, height, width, scale, 8, "pixels of the feature map"),
        element("clipPath", element("rect", x=LEFT, y=TOP, width=width * scale, height=height * scale), id="overview"),
        element(
            "g",
            *(part for index, query in enumerate(shown) for part in _overview(query, index, scale, image)),
            clip_path="url(#overview)",
        ),
        *(part for index, query in enumerate(shown) for part in _zoom(query, index, image)),
        *_legend(LEFT, TOP + height * scale + 56, groups, weights),
    ]
    described = f"{len(shown)} output pixels, {groups} groups of {len(shown[0].points) // groups} samples. {words}"
    total = max(bottom, TOP + height * scale + 56 + 24 * math.ceil(groups / 4) + 118)
    return Drawing(f"{name} sampling points", described, RIGHT + 2 * ZOOM + GAP + 32, total, tuple(parts))


def _overview(query: Query, index: int, scale: float, image: np.ndarray) -> Iterator[str]:
    left, top, size = _box(query, image)
    place = {"x": LEFT + left * scale, "y": TOP + top * scale, "width": size * scale, "height": size * scale}
    yield element("rect", **place, fill="none", stroke="white", stroke_width=4)
    yield element("rect", **place, fill="none", stroke=INK, stroke_width=1.5)
    yield from _cross(LEFT + (query.x + 0.5) * scale, TOP + (query.y + 0.5) * scale, 5)
    x, y = max(place["x"], LEFT) + 13, max(place["y"], TOP) + 13
    yield element("circle", cx=x, cy=y, r=9, fill="white", stroke=INK, stroke_width=1.5)
    yield text(x, y + 4.3, chr(ord("A") + index), size=12, text_anchor="middle", font_weight="bold")


def _zoom(query: Query, index: int, image: np.ndarray) -> Iterator[str]:
    """One query: the part of the image around it, its grid, and its samples as circles whose area is the weight."""
    left, top, size = _box(query, image)
    cell = ZOOM / size
    x0 = RIGHT + (index % 2) * (ZOOM + GAP)
    y0 = TOP + (index // 2) * (ZOOM + GAP + 22)
    yield text(x0, y0 - 12, f"{chr(ord('A') + index)}: output pixel (row {query.y}, column {query.x})", size=12)
    yield element("rect", x=x0, y=y0, width=ZOOM, height=ZOOM, fill="#f2f2f2", stroke="#bbbbbb")
    for row in range(max(0, top), min(image.shape[0], top + size)):
        for column in range(max(0, left), min(image.shape[1], left + size)):
            # Paler than the image itself, so that the samples stand out.
            red, green, blue = (round(0.45 * value + 0.55 * 255) for value in image[row, column].tolist())
            yield element(
                "rect", x=x0 + (column - left) * cell, y=y0 + (row - top) * cell, width=cell + 0.3, height=cell + 0.3,
                fill=f"#{red:02x}{green:02x}{blue:02x}",
            )  # fmt: skip

    def placed(at: tuple[float, float]) -> tuple[float, float]:
        return x0 + (at[0] + 0.5 - left) * cell, y0 + (at[1] + 0.5 - top) * cell

    clip = f"zoom{index}"
    yield element("clipPath", element("rect", x=x0, y=y0, width=ZOOM, height=ZOOM), id=clip)
    inside = []
    for point in query.points:
        (bx, by), (px, py) = placed(point.base), placed(point.at)
        colour = PALETTE[point.group % len(PALETTE)]
        inside.append(element("line", x1=bx, y1=by, x2=px, y2=py, stroke=colour, stroke_width=0.9, stroke_opacity=0.6))
    for point in query.points:
        px, py = placed(point.at)
        colour = PALETTE[point.group % len(PALETTE)]
        counts = -1 < point.at[0] < image.shape[1] and -1 < point.at[1] < image.shape[0]
        inside.append(
            element(
                "circle", cx=px, cy=py, r=max(1.2, WIDEST * math.sqrt(point.weight)), stroke=colour, stroke_width=1.4,
                fill=colour if counts else "none", fill_opacity=0.5,
            )
        )  # fmt: skip
    for base in dict.fromkeys(point.base for point in query.points):
        bx, by = placed(base)
        inside.append(element("rect", x=bx - 2, y=by - 2, width=4, height=4, fill=INK))
    inside += _cross(*placed((query.x, query.y)), 7)
    yield element("g", *inside, clip_path=f"url(#{clip})")
    beyond = sum(
        not (left <= point.at[0] + 0.5 <= left + size and top <= point.at[1] + 0.5 <= top + size)
        for point in query.points
    )
    words = f"{size}x{size} pixels" + (f"; {beyond} of {len(query.points)} samples lie beyond" if beyond else "")
    yield text(x0, y0 + ZOOM + 14, words, size=10, fill=MUTED)


def _box(query: Query, image: np.ndarray) -> tuple[int, int, int]:
    """(left, top, size) of the square around a query that is enlarged."""
    size = 2 * NEAR + 1
    return query.x - NEAR, query.y - NEAR, min(size, 2 * max(image.shape[:2]) + 1)


def _cross(x: float, y: float, arm: float) -> list[str]:
    lines = ((x - arm, y, x + arm, y), (x, y - arm, x, y + arm))
    return [
        element("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=colour, stroke_width=width)
        for colour, width in (("white", 4.0), (INK, 1.8))
        for x1, y1, x2, y2 in lines
    ]


def _legend(x: float, y: float, groups: int, weights: str) -> list[str]:
    parts = [text(x, y, "group of channels", size=11)]
    for group in range(groups):
        across, down = x + 96 * (group % 4), y + 20 + 24 * (group // 4)
        colour = PALETTE[group % len(PALETTE)]
        parts.append(element("circle", cx=across + 7, cy=down - 4, r=6, fill=colour, fill_opacity=0.5, stroke=colour))
        parts.append(text(across + 18, down, f"group {group}", size=11))
    y += 24 * math.ceil(groups / 4) + 22
    parts.append(text(x, y, weights, size=11))
    across = x
    for weight in (0.05, 0.1, 0.25, 0.5):
        radius = WIDEST * math.sqrt(weight)
        parts.append(
            element("circle", cx=across + 12, cy=y + 20, r=radius, fill="#999999", fill_opacity=0.5, stroke=MUTED)
        )
        parts.append(text(across + 28, y + 24, f"{weight:g}", size=11))
        across += 72
    y += 52
    parts += [
        element("rect", x=x + 4, y=y - 6, width=4, height=4, fill=INK),
        text(x + 18, y, "grid before the offsets", size=11),
        *_cross(x + 186, y - 4, 6),
        text(x + 198, y, "output pixel", size=11),
        element("circle", cx=x + 292, cy=y - 4, r=6, fill="none", stroke=MUTED),
        text(x + 304, y, "outside: counts 0", size=11),
    ]
    return parts


# --- The module of a state dict: settings read off the shapes, for a 3x3 window -------------------------------------


def _dcnv3(state: State, core: Core) -> nn.Module:
    depthwise, offset = state["dw_conv.0.weight"], state["offset.weight"]
    group, rest = divmod(offset.shape[0], 18)
    if rest:
        raise ValueError(f"expected 18 offset rows a group (a 3x3 window), got {offset.shape[0]}")
    return ChannelsFirstDCNv3(
        offset.shape[1],
        dw_kernel_size=depthwise.shape[2],
        group=group,
        norm_layer="LN" if "dw_conv.1.1.weight" in state else "BN",
        center_feature_scale="center_feature_scale_proj_weight" in state,
        implementation=core,
    )


MAKERS: Makers = {"dw_conv.0.weight": _dcnv3}
