"""Modules as people paste them, each of a kind that was judged wrongly or not at all; written for the tests."""

import torch
import torch.nn.functional as F
from torch import nn

from opbench.operators.dcnv3 import DCNv3
from opbench.operators.dysample import DySample
from opbench.operators.eucb import EUCB


class BuiltByItsFirstCall(nn.Module):
    """CARAFE that makes its layers when it sees an image."""

    def __init__(self, up_factor=2, k_up=3, mid=8):
        super().__init__()
        self.up_factor, self.k_up, self.mid = up_factor, k_up, mid
        self.narrow = None

    def forward(self, x):
        n, c, h, w = x.shape
        s, k = self.up_factor, self.k_up
        if self.narrow is None:
            self.narrow = nn.Conv2d(c, self.mid, 1).to(x)
            self.taps = nn.Conv2d(self.mid, s * s * k * k, 3, padding=1).to(x)
        mask = F.pixel_shuffle(self.taps(self.narrow(x)), s).softmax(1).unsqueeze(1)
        windows = F.unfold(x, k, padding=k // 2).view(n, c * k * k, h, w)
        return (F.interpolate(windows, scale_factor=s).view(n, c, k * k, s * h, s * w) * mask).sum(2)


class SeparableUnderItsName(nn.Module):
    """Said to be DCNv3: a depthwise and a pointwise convolution, nothing sampled, nothing weighed."""

    def __init__(self, d_in, d_out):
        super().__init__()
        self.spatial = nn.Conv2d(d_in, d_in, 3, padding=1, groups=d_in, bias=False)
        self.norm = nn.BatchNorm2d(d_in)
        self.mixing = nn.Conv2d(d_in, d_out, 1, bias=False)

    def forward(self, x):
        return x + F.silu(self.mixing(F.silu(self.norm(self.spatial(x)))))


class GatedBySigmoid(SeparableUnderItsName):
    """The same with a gate: two tensors made of the input meet."""

    def forward(self, x):
        return x * torch.sigmoid(super().forward(x))


class ChannelsFirst(DCNv3):
    """The published parameters, and images (N, C, H, W)."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Sampled(nn.Module):
    """What the wrong DySamples below share: offsets of twice the size, and where they lead."""

    def __init__(self, channels, groups=2):
        super().__init__()
        self.groups = groups
        self.offset = nn.Conv2d(channels, 8 * groups, 1)

    def grid(self, offset, rows, columns):
        raise NotImplementedError

    def forward(self, x):
        n, _, h, w = x.shape
        moves = F.pixel_shuffle(self.offset(x) * 0.25 + 0.1, 2).view(n, 2, self.groups, 2 * h, 2 * w)
        grid = self.grid(moves.permute(0, 2, 3, 4, 1).flatten(0, 1), h, w)
        images = x.reshape(n * self.groups, -1, h, w)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False).view(n, -1, 2 * h, 2 * w)


class FromCornerToCorner(_Sampled):
    """Positions by linspace(-1, 1), as if corners were aligned, and offsets in steps of these."""

    def grid(self, offset, rows, columns):
        across, down = (torch.linspace(-1, 1, 2 * n, dtype=offset.dtype) for n in (columns, rows))
        base = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1)
        return base + offset * torch.tensor([2 / (2 * columns - 1), 2 / (2 * rows - 1)], dtype=offset.dtype)


class SquaresOnly(_Sampled):
    """Rows where columns belong: it raises on a rectangle, and is wrong on a square."""

    def grid(self, offset, rows, columns):
        down = (torch.arange(2 * rows, dtype=offset.dtype) // 2).view(-1, 1).expand(2 * rows, 2 * columns)
        base = torch.stack((down, down.T), -1)
        size = torch.tensor([columns, rows], dtype=offset.dtype)
        return (2 * (base + offset) + 1) / size - 1


class FirstPositionsCrossed(DySample):
    """DySample with rows and columns of its first positions exchanged."""

    def __init__(self, in_channels, scale=2, style="lp", groups=4, dyscope=False):
        super().__init__(in_channels, scale, style, groups, dyscope)
        self.init_pos = self.init_pos.unflatten(1, (2, -1)).flip(1).flatten(1, 2)


class WrongOnOneRow(BuiltByItsFirstCall):
    """What a division by `max(size - 1, 1)` makes of an image of one row."""

    def forward(self, x):
        return super().forward(x * (2 if 1 in x.shape[2:] else 1))


class ActivationOfItsOwn(EUCB):
    """EUCB with an activation that the published module doesn't have."""

    def __init__(self, in_channels, out_channels, kernel_size=3, stride=1, activation="relu"):
        super().__init__(in_channels, out_channels, kernel_size, stride, "relu" if activation == "mine" else activation)
