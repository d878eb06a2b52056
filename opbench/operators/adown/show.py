"""ADown: what becomes of the two halves of the channels before its convolutions, on an image."""

from __future__ import annotations

import numpy as np

from opbench.drawings import Drawing, Shot
from opbench.operators.adown.definition import averaged, largest
from opbench.report.show.images import Pictured, channels, pixels, side_by_side


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """`image` (H, W, 3), its means, and the largest of these; no weights take part in them."""
    x = channels(image)
    means = averaged(x)
    shown = [
        Pictured("x", pixels(x[0])),
        Pictured("means of 2 x 2: read by the 3x3 of stride 2", pixels(means[0])),
        Pictured("their largest of 3 x 3: read by the 1x1", pixels(largest(means)[0])),
    ]
    words = (
        "one half of the channels goes from the means to a 3x3 convolution of stride 2,",
        "the other half to the largest of every second 3 x 3 window and a 1x1 convolution",
    )
    described = "An image, the means of its 2 x 2 windows, and the largest means at half of the size."
    return side_by_side("ADown: a mean, then two ways down", words, shown, described)
