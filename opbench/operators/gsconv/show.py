"""GSConv: where the channels of its two halves go."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from opbench.drawings import Drawing, Shot
from opbench.operators.gsconv.cores import SHUFFLES, placed
from opbench.report.show.strips import arrow, strips
from opbench.report.show.svg import MUTED, text

HALF = 6
LEFT, TOP, WIDTH, BAR, NEXT = 60, 100, 90, 22, 420
COLOURS = ("#2171b5", "#D55E00")


def drawn(shot: Shot, image: np.ndarray) -> Drawing:
    """Both shuffles of numbered channels; neither weights nor an image change anything about them."""
    parts = [
        text(LEFT, 32, "GSConv: a convolution's channels and a depthwise one's, shuffled", size=18),
        text(LEFT, 52, "blue: by the convolution; orange: from these by a depthwise 5x5; a channel is a bar", size=12),
        *(part for index, shuffle in enumerate(SHUFFLES) for part in _shuffled(LEFT + index * NEXT, shuffle)),
    ]
    described = f"{2 * HALF} channels, half of them by a convolution, under both shuffles that its repository has."
    return Drawing("GSConv's shuffles", described, LEFT + 2 * NEXT, TOP + 2 * HALF * BAR + 30, tuple(parts))


def order(shuffle: str) -> list[int]:
    """Of each output channel, which one of the concatenated channels it is."""
    numbers = torch.arange(2 * HALF).view(1, -1, 1, 1)
    return [int(number) for number in placed(*numbers.chunk(2, 1), shuffle=shuffle).flatten()]


def _shuffled(x: float, shuffle: str) -> Iterator[str]:
    right = x + WIDTH + 150
    found = order(shuffle)
    yield text(x, TOP - 14, f'shuffle="{shuffle}"', size=13)
    yield text(right, TOP - 14, "output", size=12, fill=MUTED)
    yield from strips(x, TOP, [COLOURS[channel // HALF] for channel in range(2 * HALF)], WIDTH, BAR)
    yield from strips(right, TOP, [COLOURS[channel // HALF] for channel in found], WIDTH, BAR)
    for place, channel in enumerate(found):
        start, end = (TOP + one * BAR + BAR / 2 for one in (channel, place))
        yield from arrow(x + WIDTH + 3, start, right - 22, end)
