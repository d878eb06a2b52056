"""YOLOv8 from blocks of opbench's own, for where ultralytics isn't installed: the same layers at the same sizes.

    opbench decide opbench.models.plain_yolov8:yolov8n

As ultralytics' yolov8.yaml describes it: `width` scales channels (at most 1024 before scaling), `depth` repeats. What
comes out is what the head predicts, (N, 4 * 16 + classes, anchors): boxes are not decoded, so the 16 constants of that
are no parameters here. Weights are random and keys are its own: it is for costs, not for predictions.
"""

from __future__ import annotations

from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Bins of a side's distance, and the classes of COCO.
BINS, CLASSES = 16, 80


class PlainConv(nn.Sequential):
    """x (N, C, H, W) -> (N, O, H/stride, W/stride): convolution, norm, SiLU."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int = 1, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel_size, stride, kernel_size // 2, bias=False),
            nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.03),
            nn.SiLU(),
        )


class PlainBottleneck(nn.Module):
    """x (N, C, H, W) -> the same shape: two 3x3 blocks, and x besides where `shortcut`."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.first: nn.Module = PlainConv(channels, channels, 3)
        self.second: nn.Module = PlainConv(channels, channels, 3)
        self.channels, self.shortcut = channels, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Adds what two blocks make of x."""
        y: Tensor = self.second(self.first(x))
        return x + y if self.shortcut else y


class PlainC2f(nn.Module):
    """x (N, C, H, W) -> (N, O, H, W): bottlenecks on half of the channels, all their outputs joined."""

    def __init__(self, c_in: int, c_out: int, repeats: int, shortcut: bool) -> None:
        super().__init__()
        half = c_out // 2
        self.split = PlainConv(c_in, 2 * half)
        self.blocks = nn.ModuleList(PlainBottleneck(half, shortcut) for _ in range(repeats))
        self.join = PlainConv((2 + repeats) * half, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Joins both halves and what each bottleneck makes of the one before."""
        parts = list(self.split(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        joined: Tensor = self.join(torch.cat(parts, 1))
        return joined


class PlainSPPF(nn.Module):
    """x (N, C, H, W) -> the same shape: a 5x5 maximum, of it another, and of that another, joined."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before, self.after = PlainConv(channels, channels // 2), PlainConv(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Joins what each pooling gives."""
        parts = [self.before(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        joined: Tensor = self.after(torch.cat(parts, 1))
        return joined


class PlainDetect(nn.Module):
    """Maps of three sizes -> (N, 4 * 16 + classes, anchors), one anchor a pixel."""

    def __init__(self, channels: tuple[int, ...], classes: int) -> None:
        super().__init__()
        box, score = max(16, channels[0] // 4, 4 * BINS), max(channels[0], min(classes, 100))

        def branch(c_in: int, middle: int, c_out: int) -> nn.Sequential:
            last = nn.Conv2d(middle, c_out, 1)
            return nn.Sequential(PlainConv(c_in, middle, 3), PlainConv(middle, middle, 3), last)

        self.boxes = nn.ModuleList(branch(c_in, box, 4 * BINS) for c_in in channels)
        self.scores = nn.ModuleList(branch(c_in, score, classes) for c_in in channels)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Joins boxes and scores of every pixel of every map."""
        pairs = zip(self.boxes, self.scores, maps, strict=True)
        return torch.cat([torch.cat((box(x), score(x)), 1).flatten(2) for box, score, x in pairs], 2)


class PlainYolov8(nn.Module):
    """Image (N, 3, H, W), H and W multiples of 32 -> (N, 4 * 16 + classes, anchors)."""

    def __init__(self, width: float, depth: float, classes: int = CLASSES) -> None:
        super().__init__()
        c1, c2, c3, c4, c5 = (ceil(min(c, 1024) * width / 8) * 8 for c in (64, 128, 256, 512, 1024))
        few, many = max(round(3 * depth), 1), max(round(6 * depth), 1)
        self.backbone = nn.ModuleDict(
            {
                "p2": nn.Sequential(PlainConv(3, c1, 3, 2), PlainConv(c1, c2, 3, 2), PlainC2f(c2, c2, few, True)),
                "p3": nn.Sequential(PlainConv(c2, c3, 3, 2), PlainC2f(c3, c3, many, True)),
                "p4": nn.Sequential(PlainConv(c3, c4, 3, 2), PlainC2f(c4, c4, many, True)),
                "p5": nn.Sequential(PlainConv(c4, c5, 3, 2), PlainC2f(c5, c5, few, True), PlainSPPF(c5)),
            }
        )
        self.neck = nn.ModuleDict(
            {
                "up5": nn.Upsample(scale_factor=2),
                "top4": PlainC2f(c5 + c4, c4, few, False),
                "up4": nn.Upsample(scale_factor=2),
                "out3": PlainC2f(c4 + c3, c3, few, False),
                "down3": PlainConv(c3, c3, 3, 2),
                "out4": PlainC2f(c3 + c4, c4, few, False),
                "down4": PlainConv(c4, c4, 3, 2),
                "out5": PlainC2f(c4 + c5, c5, few, False),
            }
        )
        self.head = PlainDetect((c3, c4, c5), classes)
        # The upsamplers of the neck, with the channels that they are given.
        self.upsampled = {"up5": c5, "up4": c4}

    def forward(self, x: Tensor) -> Tensor:
        """What the head predicts of the three maps."""
        parts, neck = self.backbone, self.neck
        p3 = parts["p3"](parts["p2"](x))
        p4 = parts["p4"](p3)
        p5 = parts["p5"](p4)
        top4 = neck["top4"](torch.cat((neck["up5"](p5), p4), 1))
        out3 = neck["out3"](torch.cat((neck["up4"](top4), p3), 1))
        out4 = neck["out4"](torch.cat((neck["down3"](out3), top4), 1))
        out5 = neck["out5"](torch.cat((neck["down4"](out4), p5), 1))
        out: Tensor = self.head((out3, out4, out5))
        return out


def yolov8n(classes: int = CLASSES) -> nn.Module:
    """The smallest: a quarter of the channels, a third of the repeats."""
    return PlainYolov8(0.25, 1 / 3, classes)


def yolov8s(classes: int = CLASSES) -> nn.Module:
    """Half of the channels, a third of the repeats."""
    return PlainYolov8(0.5, 1 / 3, classes)
