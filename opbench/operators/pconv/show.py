"""Partial convolution: which channels are convolved and which pass."""

from __future__ import annotations

import numpy as np

from opbench.drawings import Drawing, Shot
from opbench.operators.pconv.module import Partial_conv3
from opbench.report.show.strips import arrow, strips
from opbench.report.show.svg import MUTED, element, text

CHANNELS = 16
LEFT, TOP, WIDTH, BAR = 60, 96, 150, 18
CONVOLVED, PASSED = "#2171b5", "#c6dbef"


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """The channels before and after; neither weights nor an image change anything about it."""
    module = Partial_conv3(CHANNELS)
    part, height = module.dim_conv3, CHANNELS * BAR
    colours = [CONVOLVED] * part + [PASSED] * module.dim_untouched
    right = LEFT + WIDTH + 170
    middle = LEFT + WIDTH + 60
    parts = [
        text(LEFT, 32, "Partial convolution: the others pass", size=18),
        text(
            LEFT, 52, f"n_div = 4: {part} of {CHANNELS} channels are convolved; a channel is a bar", size=12, fill=MUTED
        ),
        text(LEFT, TOP - 12, "x", size=12),
        text(right, TOP - 12, "output", size=12),
        *strips(LEFT, TOP, colours, WIDTH, BAR),
        *strips(right, TOP, colours, WIDTH, BAR),
        element("rect", x=middle - 26, y=TOP + 8, width=106, height=part * BAR - 16, fill="white", stroke=CONVOLVED),
        text(middle + 27, TOP + part * BAR / 2 + 4, "conv 3x3", size=12, text_anchor="middle"),
        *arrow(LEFT + WIDTH + 4, TOP + part * BAR / 2, middle - 28, TOP + part * BAR / 2),
        *arrow(middle + 82, TOP + part * BAR / 2, right - 22, TOP + part * BAR / 2),
        *arrow(LEFT + WIDTH + 4, TOP + (part * BAR + height) / 2, right - 22, TOP + (part * BAR + height) / 2),
        text(middle + 27, TOP + (part * BAR + height) / 2 - 6, "unchanged", size=12, text_anchor="middle"),
    ]
    described = f"{part} of {CHANNELS} channels go through a 3x3 convolution, {module.dim_untouched} pass unchanged."
    return Drawing("Partial convolution", described, right + WIDTH + 60, TOP + height + 30, tuple(parts))
