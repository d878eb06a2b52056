"""Haar wavelet downsampling: the four bands that it makes of an image, before its convolution mixes them."""

from __future__ import annotations

import numpy as np
import torch

from opbench.drawings import Drawing, Shot
from opbench.operators.hwd.definition import haar
from opbench.report.show.images import Pictured, channels, pixels, side_by_side

NAMES = ("0: the sum", "1: down", "2: across", "3: over the diagonal")


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """The bands of `image` (H, W, 3), at half of its size; no weights take part in them."""
    bands = haar(channels(image), torch.tensor(0.5))[0].chunk(4)
    shown = [Pictured(f"{NAMES[0]}, halved once more", pixels(bands[0] / 2))]
    shown += [Pictured(name, pixels(band + 128)) for name, band in zip(NAMES[1:], bands[1:], strict=True)]
    words = (
        "of every 2 x 2 block of pixels its sum and three differences become channels, each halved",
        "a difference of 0 is grey, so flat places are",
    )
    described = "Four bands of an image: its smaller self, and where it changes down, across and over the diagonal."
    return side_by_side("HWD: the bands of the Haar wavelets", words, shown, described)
