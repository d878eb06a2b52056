"""The study of the 3x3 slot: find the one shape in an image (N, 1, 48, 48) and name its kind.

A detector as small as can be, after FCOS (arXiv 1904.01355): every cell of a 12 x 12 grid says which kind of shape its
centre lies in, or none, and how far away the four sides of its box are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opbench.study.declared import Entrant, Study, Tensors
from opbench.study.document import Metric
from opbench.study.images import Source
from opbench.study.shapes import KINDS, SIDE, shapes

CHANNELS = 32
SLOTS = 3
STRIDE = 4
GRID = SIDE // STRIDE
POOL, VALIDATION, HELD_OUT = 2048, 384, 512  # images
RADIUS = 1.5  # cells around a box's centre that answer for it
BACKGROUND = len(KINDS)


class ConvBlock(nn.Module):
    """x (N, C, H, W) -> same: the slot, batch norm, ReLU, around it the identity."""

    def __init__(self, slot: nn.Module) -> None:
        super().__init__()
        self.slot = slot
        self.norm = nn.BatchNorm2d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        """x and what the slot makes of it."""
        return x + F.relu(self.norm(self.slot(x)))


class ShapeDetector(nn.Module):
    """x (N, 1, 48, 48) -> (N, kinds + 1 + 4, 12, 12): logits of kinds and background, log distances to the sides."""

    def __init__(self, slot: Callable[[], nn.Module]) -> None:
        super().__init__()
        C = CHANNELS
        self.stem = nn.Sequential(
            *(nn.Conv2d(1, C // 2, 3, 2, 1, bias=False), nn.BatchNorm2d(C // 2), nn.ReLU()),
            *(nn.Conv2d(C // 2, C, 3, 2, 1, bias=False), nn.BatchNorm2d(C), nn.ReLU()),
        )
        self.head = nn.Conv2d(C, len(KINDS) + 1 + 4, 1)
        self.blocks = nn.Sequential(*(ConvBlock(slot()) for _ in range(SLOTS)))

    def forward(self, x: Tensor) -> Tensor:
        """A prediction per cell."""
        out: Tensor = self.head(self.blocks(self.stem(x)))
        return out


class Shapes:
    """Images, kinds and boxes, drawn once from fixed seeds; training images are flipped and turned at random."""

    def __init__(self, source: Source, quick: bool) -> None:
        share = 32 if quick else 1
        self.description = (
            f"generated images of one slanted, textured shape of {len(KINDS)} kinds: {POOL // share} to train on, "
            f"{VALIDATION // share} validation, {HELD_OUT // share} held-out"
        )
        self._pool = _drawn(1, POOL // share)
        self.validation = _drawn(2, VALIDATION // share)
        self.held_out = _drawn(3, HELD_OUT // share)

    def batch(self, draw: np.random.Generator, size: int) -> Tensors:
        """`size` images, one flip or transposition of the eight for all."""
        chosen = torch.from_numpy(draw.integers(len(self._pool[0]), size=size))
        pixels, kinds, boxes = (tensor[chosen] for tensor in self._pool)
        x0, y0, x1, y1 = boxes.unbind(1)
        if draw.integers(2):
            pixels, x0, x1 = pixels.flip(3), SIDE - x1, SIDE - x0
        if draw.integers(2):
            pixels, y0, y1 = pixels.flip(2), SIDE - y1, SIDE - y0
        if draw.integers(2):
            pixels, x0, y0, x1, y1 = pixels.transpose(2, 3), y0, x0, y1, x1
        return pixels.contiguous(), kinds, torch.stack([x0, y0, x1, y1], 1)


def _drawn(seed: int, count: int) -> Tensors:
    pixels, kinds, boxes = shapes(np.random.default_rng(seed), count)
    return torch.from_numpy(pixels), torch.from_numpy(kinds), torch.from_numpy(boxes)


def _centres() -> Tensor:
    """(GRID, GRID, 2): x and y of each cell's centre, in pixels."""
    at = (torch.arange(GRID) + 0.5) * STRIDE
    return torch.stack([at.expand(GRID, GRID), at[:, None].expand(GRID, GRID)], -1)


def _boxes(distances: Tensor) -> Tensor:
    """Log distances (N, 4, GRID, GRID) -> boxes (N, GRID, GRID, 4)."""
    left, top, right, bottom = (STRIDE * distances.clamp(-4, 4).exp()).unbind(1)
    x, y = _centres().unbind(-1)
    return torch.stack([x - left, y - top, x + right, y + bottom], -1)


def iou(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4) as x0, y0, x1, y1."""
    low, high = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(-1) for box in (one, other)]
    return shared / (areas[0] + areas[1] - shared)


def _loss(network: nn.Module, batch: Tensors) -> Tensor:
    """Cross-entropy of the cells, those that answer for a box and the others weighted alike, and 1 - IoU."""
    pixels, kinds, boxes = batch
    predicted = network(pixels)
    middle = (boxes[:, None, None, :2] + boxes[:, None, None, 2:]) / 2
    answers = ((_centres() - middle).abs() <= RADIUS * STRIDE).all(-1)
    wanted = torch.where(answers, kinds[:, None, None], BACKGROUND)
    entropy = F.cross_entropy(predicted[:, : BACKGROUND + 1], wanted, reduction="none")
    named = entropy[answers].mean() + entropy[~answers].mean()
    overlap = iou(_boxes(predicted[:, BACKGROUND + 1 :]), boxes[:, None, None])
    return named + (1 - overlap[answers]).mean()


def _score(network: nn.Module, examples: Tensors) -> dict[str, float]:
    """The most confident cell speaks for the image."""
    pixels, kinds, boxes = examples
    with torch.no_grad():
        predicted = torch.cat([network(part) for part in pixels.split(32)])
    probability = predicted[:, : BACKGROUND + 1].softmax(1)[:, :BACKGROUND].flatten(2)
    cell = probability.amax(1).argmax(1)
    named = probability.gather(2, cell[:, None, None].expand(-1, BACKGROUND, 1))[..., 0].argmax(1)
    box = _boxes(predicted[:, BACKGROUND + 1 :]).flatten(1, 2)[torch.arange(len(cell)), cell]
    return _scores(named == kinds, iou(box, boxes))


def _scores(right: Tensor, overlap: Tensor) -> dict[str, float]:
    return {"accuracy": 100 * right.double().mean().item(), "iou": 100 * overlap.double().mean().item()}


def _anchors(examples: Tensors) -> dict[str, dict[str, float]]:
    _, kinds, boxes = examples
    commonest = kinds.bincount(minlength=BACKGROUND).argmax()
    return {"always the commonest kind and the mean box": _scores(kinds == commonest, iou(boxes.mean(0), boxes))}


STUDY = Study(
    name="conv3x3",
    title="Finding and naming a slanted shape",
    question="What does the choice of 3x3 operator do to a small detector where sampling shape matters?",
    task="conv3x3",
    baseline="conv3x3",
    entrants=(
        Entrant("conv3x3", "conv3x3", ("torch",), {"G": 1}),
        Entrant("depthwise-separable", "depthwise-separable", ("torch",), {"G": 1}),
        Entrant("dcnv2", "dcnv2", ("gather",), {"G": 1}, "one offset group, as in its paper"),
        Entrant("dcnv3", "dcnv3", ("cpu", "gather"), {"G": 2}, "16 channels a group, as InternImage"),
    ),
    slot_dims={"C": CHANNELS, "H": GRID, "W": GRID, "G": 1},
    slots=SLOTS,
    network_description=(
        f"two strided 3x3 convolutions to C={CHANNELS} channels on a {GRID}x{GRID} grid, {SLOTS} times [the slot, "
        "batch norm, ReLU, plus identity], one 1x1 convolution"
    ),
    network=ShapeDetector,
    data=Shapes,
    inputs=lambda batch: batch[0],
    loss=_loss,
    score=_score,
    anchors=_anchors,
    metrics=(Metric("iou", "mean IoU of the box", "%", 1), Metric("accuracy", "kind named right", "%", 1)),
    loss_title="cross-entropy + (1 - IoU)",
    left_out=("depthwise3x3", "yolo-dcnv3"),
    steps=400,
    batch=16,
)
