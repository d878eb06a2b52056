"""Generated images (N, 1, SIDE, SIDE) of one textured shape each, seen at a slant, with its kind and its box.

The kinds differ in outline alone. A shape is turned by any angle, sheared, scaled differently along its axes and put
anywhere inside the image; its texture and the background's come from the same distribution, and pixels are noisy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from opbench.study.images import texture

SIDE = 48  # pixels
HALF_SIZES = (6.0, 14.0)  # pixels: half the extent along either axis of a shape, before shear
SHEAR = 0.6
CONTRAST = 0.3  # at least, between the means of shape and background

# Inside of each kind, in its own coordinates: within the unit square [-1, 1] x [-1, 1].
KINDS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": lambda u, v: u**2 + v**2 < 1,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) < 0.85,
    "triangle": lambda u, v: (v > -0.7) & (v + 1.7 * abs(u) < 0.9),
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) < 0.3) & (np.maximum(abs(u), abs(v)) < 1),
    "ring": lambda u, v: (u**2 + v**2 < 1) & (u**2 + v**2 > 0.3),
}


def shapes(draw: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`count` images: pixels (N, 1, SIDE, SIDE) float32 around 0, kinds (N,), boxes (N, 4) as x0, y0, x1, y1."""
    pixels = np.empty((count, 1, SIDE, SIDE), dtype=np.float32)
    kinds = np.empty(count, dtype=np.int64)
    boxes = np.empty((count, 4), dtype=np.float32)
    for index in range(count):
        pixels[index, 0], kinds[index], boxes[index] = _shape(draw)
    return pixels, kinds, boxes


def _shape(draw: np.random.Generator) -> tuple[np.ndarray, int, tuple[float, float, float, float]]:
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    kind = int(draw.integers(len(KINDS)))
    angle, shear = draw.uniform(0, 2 * np.pi), draw.uniform(-SHEAR, SHEAR)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    slant = turn @ np.array([[1, shear], [0, 1]]) @ np.diag(draw.uniform(*HALF_SIZES, 2))
    margin = np.minimum(np.abs(slant).sum(1), SIDE / 2 - 1)  # of the slanted unit square
    x, y = draw.uniform(margin, SIDE - margin)
    back = np.linalg.inv(slant)
    u, v = np.einsum("ab,bhw->ahw", back, np.stack([columns - x, rows - y]))
    inside = KINDS[tuple(KINDS)[kind]](u, v)
    image = texture(draw, rows, columns)
    fill = texture(draw, rows, columns)
    fill += image.mean() - fill.mean() + draw.choice([-1, 1]) * draw.uniform(CONTRAST, 1.5 * CONTRAST)
    image = np.where(inside, fill, image) + draw.normal(0, 0.03, image.shape)
    held_rows, held_columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    box = (held_columns[0], held_rows[0], held_columns[-1] + 1, held_rows[-1] + 1)
    return (image - 0.5).astype(np.float32), kind, tuple(map(float, box))  # type: ignore[return-value]
