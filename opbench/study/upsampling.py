"""The study of the upsampling slot: restore an image (N, 1, 2H, 2W) from its 2 x 2 means (N, 1, H, W)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opbench.study.declared import Entrant, Study, Tensors
from opbench.study.document import Metric
from opbench.study.images import Source, pictures

CHANNELS = 24
CROP = 48  # pixels, of the image to restore
TILE = 80  # pixels, of held-out crops
BORDER = 4  # pixels left out of the score on every side: what padding does there is no property of an upsampler


class Restorer(nn.Module):
    """x (N, 1, H, W) -> (N, 1, 2H, 2W): two convolutions, the slot, two convolutions at the new size.

    Bilinear interpolation goes around them all, so that what passes through the slot is the detail it lacks.
    """

    def __init__(self, slot: Callable[[], nn.Module]) -> None:
        super().__init__()
        C = CHANNELS
        self.head = nn.Sequential(nn.Conv2d(1, C, 3, padding=1), _leaky(), nn.Conv2d(C, C, 3, padding=1), _leaky())
        self.tail = nn.Sequential(nn.Conv2d(C, 12, 3, padding=1), _leaky(), nn.Conv2d(12, 1, 3, padding=1))
        self.slot = slot()

    def forward(self, x: Tensor) -> Tensor:
        """The restored image, around 0 where the input is around 0.5."""
        detail: Tensor = self.tail(self.slot(self.head(x - 0.5)))
        return F.interpolate(x, scale_factor=2, mode="bilinear") + detail


def _leaky() -> nn.Module:
    """With plain ReLUs a few seeds of every contender went dead early and restored nothing beyond interpolation."""
    return nn.LeakyReLU(0.1)


class Crops:
    """Pairs of (2 x 2 means, image) cut from images: random ones to train on, a fixed grid of them to score by."""

    def __init__(self, source: Source, quick: bool) -> None:
        found = pictures(source)
        most = 4 if quick else None
        self.description = found.description
        self._images = found.images["training"]
        self.validation = _pairs(_tiles(found.images["validation"])[:most])
        self.held_out = _pairs(_tiles(found.images["held-out"])[:most])

    def batch(self, draw: np.random.Generator, size: int) -> Tensors:
        """Crops at random places, turned by a random quarter and flipped at random."""
        return _pairs([self._crop(draw) for _ in range(size)])

    def _crop(self, draw: np.random.Generator) -> np.ndarray:
        image = self._images[draw.integers(len(self._images))]
        top, left = (draw.integers(size - CROP + 1) for size in image.shape)
        crop: np.ndarray = np.rot90(image[top : top + CROP, left : left + CROP], int(draw.integers(4)))
        return np.fliplr(crop) if draw.integers(2) else crop


def _tiles(images: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    return [
        image[top : top + TILE, left : left + TILE]
        for image in images
        for top in range(0, image.shape[0] - TILE + 1, TILE)
        for left in range(0, image.shape[1] - TILE + 1, TILE)
    ]


def _pairs(crops: list[np.ndarray]) -> Tensors:
    sharp = torch.from_numpy(np.stack(crops))[:, None]
    return F.avg_pool2d(sharp, 2), sharp


def _loss(network: nn.Module, batch: Tensors) -> Tensor:
    small, sharp = batch
    return F.l1_loss(network(small), sharp)


def _score(network: nn.Module, examples: Tensors) -> dict[str, float]:
    small, sharp = examples
    with torch.no_grad():
        restored = torch.cat([network(part) for part in small.split(16)])
    return {"psnr": psnr(restored, sharp)}


def psnr(restored: Tensor, sharp: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1], of the mean squared error over all of them."""
    inside = (..., slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    error = (restored.clamp(0, 1)[inside] - sharp[inside]).double().square().mean().item()
    return math.nan if math.isnan(error) else 10 * math.log10(1 / max(error, 1e-12))


def _anchors(examples: Tensors) -> dict[str, dict[str, float]]:
    small, sharp = examples
    modes: tuple[tuple[str, str], ...] = (("nearest", "nearest"), ("bilinear", "bilinear"), ("bicubic", "bicubic"))
    return {
        f"{title} interpolation, no network": {"psnr": psnr(F.interpolate(small, scale_factor=2, mode=mode), sharp)}
        for title, mode in modes
    }


_TORCH = ("torch",)
_CARAFE = ("cpu", "shift-add")
STUDY = Study(
    name="upsample",
    title="Restoring an image at twice its size",
    question="What does the choice of upsampler do to a small network that restores detail, equally trained?",
    task="upsample2x",
    baseline="nearest",
    entrants=(
        Entrant("nearest", "nearest", _TORCH, {}),
        Entrant("bilinear", "bilinear", _TORCH, {}),
        Entrant("nearest-conv3x3", "nearest-conv3x3", _TORCH, {}),
        Entrant("deconv", "deconv", _TORCH, {}),
        Entrant("pixel-shuffle", "pixel-shuffle", _TORCH, {}),
        Entrant("carafe", "carafe", _CARAFE, {}),
        Entrant("yolo-carafe", "yolo-carafe", _CARAFE, {}),
    ),
    # CARAFE compresses to a quarter of the channels in its paper's setting (64 of 256); here to two thirds.
    slot_dims={"C": CHANNELS, "H": CROP // 2, "W": CROP // 2, "k_up": 5, "k_enc": 3, "c_mid": 16, "g": 1},
    slots=1,
    network_description=(
        f"two 3x3 convolutions to C={CHANNELS} channels, the slot, two 3x3 convolutions, leaky ReLU between; added to "
        "the bilinear interpolation of the input"
    ),
    network=Restorer,
    data=Crops,
    inputs=lambda batch: batch[0],
    loss=_loss,
    score=_score,
    anchors=_anchors,
    metrics=(Metric("psnr", "PSNR", "dB", 2),),
    loss_title="mean absolute error (intensity, 0 to 1)",
    left_out=("bicubic", "bilinear-conv3x3", "spatial-attention"),
    stand_in=lambda: nn.Upsample(scale_factor=2),
    steps=250,
    batch=8,
)
