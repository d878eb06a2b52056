"""The image that an operator is shown on, and the features that it sees of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from opbench.schema import OpbenchError

# Pixels of the longer side: few enough that each can be seen, as on a feature map.
LONGEST = 32
MOST_CHANNELS = 8192


def synthetic(size: int = LONGEST) -> np.ndarray:
    """(size, size, 3) of 0 to 255: a disc, a square, stripes and a thin line on a slope; always the same."""
    y, x = np.mgrid[0:size, 0:size] / size
    image = np.stack([200 - 60 * y, 215 - 40 * x, 225 - 50 * (x + y) / 2], -1)
    image[(x - 0.3) ** 2 + (y - 0.32) ** 2 < 0.035] = (213, 94, 0)
    image[(abs(x - 0.72) < 0.16) & (abs(y - 0.28) < 0.13)] = (0, 94, 158)
    striped = (y > 0.58) & (y < 0.9) & (x > 0.1) & (x < 0.52)
    image[striped & ((x * size).astype(int) % 4 < 2)] = (40, 40, 48)
    image[(abs(y - 0.62 - 0.6 * (x - 0.6)) < 0.02) & (x > 0.58)] = (0, 120, 84)
    rounded: np.ndarray = image.round().astype("uint8")
    return rounded


def read(path: Path) -> np.ndarray:
    """(H, W, 3) of 0 to 255: a PNG or JPEG file, its longer side reduced to LONGEST pixels."""
    try:
        from PIL import Image
    except ImportError:
        raise OpbenchError("--image needs pillow: pip install 'opbench[report]'") from None
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as opened:
            image = opened.convert("RGB")
    # UnidentifiedImageError is an OSError; ultralytics, once imported, makes Pillow ask for pi_heif: an ImportError.
    except (OSError, ImportError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise OpbenchError(f"--image {path}: expected a PNG or JPEG file: {error}") from error
    share = LONGEST / max(image.size)
    width, height = (max(1, round(side * share)) for side in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


def features(image: np.ndarray, channels: int, seed: int) -> torch.Tensor:
    """(1, channels, H, W): seeded 3x3 filters of the image, of zero mean and unit deviation, as a network's are.

    Raises `OpbenchError` for more channels than any network has: weights of anybody's say how many.
    """
    if channels > MOST_CHANNELS:
        raise OpbenchError(f"a module of {channels:,} channels; expected at most {MOST_CHANNELS:,} to be shown")
    pixels = torch.from_numpy(image.astype("float32") / 255).permute(2, 0, 1)[None]
    filters = torch.randn(channels, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    padded = F.pad(pixels, (1, 1, 1, 1), mode="replicate")
    found = F.conv2d(padded, filters)
    deviation, mean = torch.std_mean(found, (2, 3), keepdim=True, correction=0)
    return (found - mean) / deviation.clamp_min(1e-6)
