"""Small networks of a user's own, named on the command line by this file."""

import sys

import torch
import torch.nn.functional as F
from torch import nn


class Small(nn.Module):
    """A stem, a 3x3 convolution that keeps its shape, and an upsampler."""

    def __init__(self, channels=16, scale=2):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.mix = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.up = nn.Upsample(scale_factor=scale)
        self.head = nn.Conv2d(channels, 2, 1)

    def forward(self, x):
        print("a model may print")
        return self.head(self.up(self.norm(self.mix(self.stem(x))).relu()))


built = Small()


class Interpolating(Small):
    def forward(self, x):
        return F.interpolate(super().forward(x), scale_factor=2, mode="bilinear")


class Concatenating(Small):
    """Runs on even sizes only."""

    def forward(self, x):
        return torch.cat([super().forward(x), x], 1)


class Untrainable(Small):
    def forward(self, x):
        return super().forward(x).argmax(1)


class HeadFirst(nn.Module):
    """Lists its parts in another order than it calls them."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(8, 8, 3, padding=1)
        self.stem = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        return self.head(self.stem(x))


class Grey(nn.Module):
    """Takes one channel, and its convolution three."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        return self.stem(x.expand(-1, 3, -1, -1))


class Leaving(Small):
    def forward(self, x):
        sys.exit(5)


def leaves():
    sys.exit(3)


def on_meta():
    with torch.device("meta"):
        return Small()


def raises():
    raise RuntimeError("no weights here")


def makes_a_list():
    return [Small()]


number = 3
