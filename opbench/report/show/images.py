"""Images side by side, each under its name: what an operator without weights makes of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from opbench.drawings import Drawing
from opbench.report.show.svg import MUTED, element, raster, text

LEFT, TOP, GAP, SIDE = 48, 112, 36, 240


class Pictured(NamedTuple):
    """An image (H, W, 3) of 0 to 255 with its name, and the colour of its frame."""

    name: str
    pixels: np.ndarray
    frame: str = "#bbbbbb"


def channels(image: np.ndarray) -> Tensor:
    """An image (H, W, 3) as a batch of one, (1, 3, H, W) in float32, cut to even sides."""
    height, width = (side // 2 * 2 for side in image.shape[:2])
    return torch.from_numpy(image[:height, :width].astype("float32")).permute(2, 0, 1)[None]


def pixels(values: Tensor) -> np.ndarray:
    """(3, H, W) of 0 to 255, as an image; what exceeds the range is cut off."""
    return values.permute(1, 2, 0).round().clamp(0, 255).numpy().astype("uint8")


def side_by_side(title: str, lines: Sequence[str], images: Sequence[Pictured], described: str) -> Drawing:
    """The picture: images of one height in a row, enlarged by whole numbers, under a title and lines of words."""
    scale = max(1, SIDE // max(max(one.pixels.shape[:2]) for one in images))
    parts = [text(LEFT, 32, title, size=18)]
    parts += [text(LEFT, 52 + 18 * number, words, size=12, fill=MUTED) for number, words in enumerate(lines)]
    x = LEFT
    for one in images:
        height, width = (scale * side for side in one.pixels.shape[:2])
        frame = {"x": x - 2, "y": TOP - 2, "width": width + 4, "height": height + 4}
        parts.append(element("rect", **frame, fill="none", stroke=one.frame, stroke_width=3))
        parts.append(raster(one.pixels, x, TOP, scale))
        parts.append(text(x, TOP - 12, one.name, size=12))
        x += max(width, 8 * len(one.name)) + GAP
    tallest = scale * max(one.pixels.shape[0] for one in images)
    return Drawing(title, described, x, TOP + tallest + 32, tuple(parts))
