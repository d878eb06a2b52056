"""Grey images (H, W) in [0, 1] to train on: photographs that installed packages ship, or textures made from a seed.

Photographs come with the `ultralytics` extra: `bus.jpg` and `zidane.jpg` of ultralytics itself, `grace_hopper.jpg` of
matplotlib, which it needs. Nothing is downloaded. A photograph is only ever in one of the three roles, and is halved
after decoding, so that the blocks of its JPEG compression don't become the detail to restore.

A generated image is a mosaic: the cells of random points, each filled with its own texture, drawn at twice the size
and averaged, so that edges are smooth. Textures are sums of sinusoidal gratings of random direction and wavelength
(3 to 24 pixels) and a little noise: https://en.wikipedia.org/wiki/Grating, https://en.wikipedia.org/wiki/Voronoi_diagram.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from opbench.errors import nearest
from opbench.schema import OpbenchError

Source = Literal["photographs", "generated"]
Role = Literal["training", "validation", "held-out"]

# Role -> (package, path inside it).
PHOTOGRAPHS: Mapping[Role, tuple[str, str]] = {
    "training": ("ultralytics", "assets/bus.jpg"),
    "validation": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "held-out": ("ultralytics", "assets/zidane.jpg"),
}
# Role -> how many generated images of SIDE x SIDE pixels.
GENERATED: Mapping[Role, int] = {"training": 4, "validation": 1, "held-out": 2}
SIDE = 256
CELLS = 14
GRATINGS = 3
WAVELENGTHS = (3.0, 24.0)  # pixels


@dataclass(frozen=True)
class Pictures:
    """Grey images of each role, float32 (H, W) in [0, 1], and where they come from in words."""

    source: Source
    description: str
    images: Mapping[Role, tuple[np.ndarray, ...]]


@lru_cache(maxsize=4)
def pictures(source: str = "auto") -> Pictures:
    """The images of a source; "auto" takes photographs where they are installed.

    Raises OpbenchError for an unknown source, and for photographs that aren't there.
    """
    known = ("auto", *get_args(Source))
    if source not in known:
        raise OpbenchError(nearest("images", source, known))
    if source == "generated" or (source == "auto" and missing_photographs()):
        return _generated()
    missing = missing_photographs()
    if missing:
        raise OpbenchError(
            f"--images photographs: {missing}; install the extra (pip install 'opbench[ultralytics]', AGPL-3.0), "
            f"or use --images generated"
        )
    return _photographs()


def missing_photographs() -> str | None:
    """Why the photographs can't be read here, or None."""
    if importlib.util.find_spec("PIL") is None:
        return "there is no PIL to decode them"
    absent = [f"{package}/{path}" for package, path in PHOTOGRAPHS.values() if _installed(package, path) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def texture(draw: np.random.Generator, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """One random texture at pixel coordinates `rows` and `columns` of equal shape; about in [0, 1]."""
    low, high = np.log(WAVELENGTHS)
    value = np.full(rows.shape, draw.uniform(0.25, 0.75))
    for _ in range(GRATINGS):
        angle, phase = draw.uniform(0, np.pi), draw.uniform(0, 2 * np.pi)
        frequency = 2 * np.pi / np.exp(draw.uniform(low, high))
        across = rows * np.sin(angle) + columns * np.cos(angle)
        value += draw.uniform(0, 0.15) * np.sin(frequency * across + phase)
    return value + draw.normal(0, 0.02, rows.shape)


def mosaic(draw: np.random.Generator, side: int) -> np.ndarray:
    """One generated image (side, side), float32 in [0, 1]."""
    rows, columns = np.mgrid[: 2 * side, : 2 * side] / 2.0
    sites = draw.uniform(0, side, (CELLS, 2))
    owner = np.argmin([(rows - y) ** 2 + (columns - x) ** 2 for y, x in sites], axis=0)
    image = np.empty(rows.shape)
    for cell in range(CELLS):
        inside = owner == cell
        image[inside] = texture(draw, rows[inside], columns[inside])
    return _halved(np.clip(image, 0, 1))


def _generated() -> Pictures:
    images: dict[Role, tuple[np.ndarray, ...]] = {}
    for index, (role, count) in enumerate(GENERATED.items()):
        images[role] = tuple(mosaic(np.random.default_rng([index, number]), SIDE) for number in range(count))
    parts = ", ".join(f"{count} {role}" for role, count in GENERATED.items())
    return Pictures("generated", f"generated mosaics of textures, {SIDE} x {SIDE} pixels ({parts})", images)


def _photographs() -> Pictures:
    images = {role: (_decoded(package, path),) for role, (package, path) in PHOTOGRAPHS.items()}
    parts = [f"{role} {Path(path).name} of {package}" for role, (package, path) in PHOTOGRAPHS.items()]
    return Pictures("photographs", f"photographs, grey and halved: {', '.join(parts)}", images)


def _decoded(package: str, path: str) -> np.ndarray:
    file = _installed(package, path)
    try:
        decoder = importlib.import_module("PIL.Image")
        with decoder.open(file) as image:
            grey = np.asarray(image.convert("L"), dtype=np.float64) / 255
    except (OSError, ValueError) as error:
        raise OpbenchError(f"{file}: can't be read as an image: {error}; use --images generated") from None
    return _halved(grey)


def _installed(package: str, path: str) -> Path | None:
    """Where a package's file lies, without importing the package; None where it doesn't."""
    spec = importlib.util.find_spec(package)
    places: Sequence[str] = (spec.submodule_search_locations or ()) if spec else ()
    return next((file for place in places if (file := Path(place) / path).is_file()), None)


def _halved(image: np.ndarray) -> np.ndarray:
    """The mean of every 2 x 2 block, of the largest even part of the image."""
    height, width = (2 * (size // 2) for size in image.shape)
    blocks = image[:height, :width].reshape(height // 2, 2, width // 2, 2)
    means: np.ndarray = blocks.mean((1, 3)).astype(np.float32)
    return means
