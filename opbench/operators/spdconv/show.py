"""SPDConv: which pixels of an image become which slice, before its convolution mixes them."""

from __future__ import annotations

import numpy as np
import torch

from opbench.drawings import Drawing, Shot
from opbench.operators.spdconv.definition import space_to_depth
from opbench.report.show.images import Pictured, channels, pixels, side_by_side

COLOURS = ((33, 113, 181), (213, 94, 0), (0, 158, 115), (204, 121, 167))
NAMES = ("0: rows 0, columns 0", "1: rows 1, columns 0", "2: rows 0, columns 1", "3: rows 1, columns 1")
SMALL = 8  # pixels of a side of the grid that shows where a slice comes from


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """The slices of `image` (H, W, 3), in the order of their channels; no weights take part in them."""
    slices = space_to_depth(channels(image))[0].chunk(4)
    grid = np.asarray(COLOURS, dtype="uint8")[origins()].repeat(image.shape[0] // SMALL, 0)
    shown = [Pictured("which slice a pixel goes to", grid.repeat(image.shape[1] // SMALL, 1))]
    frames = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in COLOURS]
    shown += [Pictured(name, pixels(one), frame) for name, one, frame in zip(NAMES, slices, frames, strict=True)]
    words = (
        "four slices of half the size stand side by side as channels, then a convolution without stride follows",
        f"left: the first {SMALL} x {SMALL} pixels by the colour of their slice; names say which rows and columns",
    )
    described = "An image and its four slices: every second row and column, beginning at each of 2 x 2 pixels."
    return side_by_side("SPDConv: pixels become channels", words, shown, described)


def origins() -> np.ndarray:
    """(SMALL, SMALL): the slice that each pixel goes to, asked of the definition itself."""
    numbers = torch.arange(SMALL * SMALL).view(1, 1, SMALL, SMALL)
    found = np.zeros(SMALL * SMALL, dtype=int)
    for place, one in enumerate(space_to_depth(numbers)[0]):
        found[one.flatten().numpy()] = place
    return found.reshape(SMALL, SMALL)
