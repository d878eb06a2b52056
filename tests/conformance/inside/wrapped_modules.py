"""Modules in which a core is harder to see, or which have several, written for the tests; see `carafe_modules`."""

import carafe_modules
import torch
import torch.nn.functional as F
from deformable_modules import Block, Deformable
from torch import nn


class TabulatedV2(nn.Module):
    """DCNv2 whose base positions are tables of the offset's own shape, all rows and then all columns."""

    def __init__(self, inc, outc, k=3, modulated=True):
        super().__init__()
        self.k = k
        self.weigh = nn.Conv2d(inc, outc, k, stride=k, bias=False)
        self.shift = nn.Conv2d(inc, 2 * k * k, 3, padding=1)
        self.modulate = nn.Conv2d(inc, k * k, 3, padding=1) if modulated else None

    def table(self, offset):
        """Of the padded image, as large as the offsets: row and column of every tap of every pixel, from 0 on."""
        _, _, h, w = offset.shape
        rows = torch.arange(h).view(1, h, 1).expand(self.k**2, h, w)
        columns = torch.arange(w).view(1, 1, w).expand(self.k**2, h, w)
        taps = torch.arange(self.k**2).view(-1, 1, 1)
        return torch.cat((rows + taps // self.k, columns + taps % self.k)).unsqueeze(0).to(offset.dtype).contiguous()

    def forward(self, x):
        offset = self.shift(x)
        n, _, h, w = offset.shape
        at = self.table(offset) + offset
        y, x_ = at.chunk(2, 1)
        padded = F.pad(x, (1, 1, 1, 1))
        H, W = padded.shape[2:]
        grid = torch.stack(((2 * x_ + 1) / W - 1, (2 * y + 1) / H - 1), -1).view(n, -1, w, 2)
        taps = F.grid_sample(padded, grid, align_corners=False).view(n, -1, self.k**2, h, w)
        if self.modulate is not None:
            taps = taps * self.modulate(x).sigmoid().unsqueeze(1)
        tiled = taps.view(n, -1, self.k, self.k, h, w).permute(0, 1, 4, 2, 5, 3)
        return self.weigh(tiled.reshape(n, -1, h * self.k, w * self.k))


class UnmodulatedV2(TabulatedV2):
    """DCNv1 under the name."""

    def __init__(self, inc, outc):
        super().__init__(inc, outc, modulated=False)


class PredictedAndDropped(TabulatedV2):
    """The weights are predicted, and not handed on."""

    def forward(self, x):
        self.modulate(x).sigmoid()
        modulate, self.modulate = self.modulate, None
        try:
            return super().forward(x)
        finally:
            self.modulate = modulate


class TwoScales(nn.Module):
    """A neck that makes its image larger twice."""

    def __init__(self, c1):
        super().__init__()
        self.first, self.second = carafe_modules.PerChild(c1, k=3), self.again(c1)

    def again(self, channels):
        return carafe_modules.UnfoldEinsum(channels, c_mid=16)

    def forward(self, x):
        return self.second(F.silu(self.first(x)))


class SecondIsWrong(TwoScales):
    def again(self, channels):
        return carafe_modules.WindowOnUpsampled(channels)


class TwoLayers(nn.Module):
    """A C2f of two bottlenecks, one behind the other."""

    def __init__(self, c1, c2):
        super().__init__()
        self.half = c2 // 2
        self.first, self.last = nn.Conv2d(c1, c2, 1), nn.Conv2d(self.half * 4, c2, 1)
        self.m = nn.ModuleList(Block(self.half, self.half) for _ in range(2))

    def forward(self, x):
        parts = list(self.first(x).chunk(2, 1))
        for one in self.m:
            parts.append(one(parts[-1]))
        return self.last(torch.cat(parts, 1))


class SecondDropsItsOffsets(TwoLayers):
    def __init__(self, c1, c2):
        super().__init__(c1, c2)
        self.m[1].layer = _Still(c2 // 2)


class _Still(Deformable):
    def locations(self, offset):
        return super().locations(torch.zeros_like(offset))


SEVERAL = {
    ("dcnv2", TabulatedV2): ("right", "computes DCNv2's convolution"),
    ("dcnv2", UnmodulatedV2): ("wrong", "every weight 1, as DCNv1 does: no mask takes part"),
    ("dcnv2", PredictedAndDropped): ("wrong", "every weight 1, as DCNv1 does: no mask takes part"),
    ("carafe", TwoScales): ("right", "computes CARAFE's reassembly 2 times (1 in first, line"),
    ("carafe", SecondIsWrong): ("wrong", "core 2 of 2 (in second, line"),
    ("dcnv3", TwoLayers): ("right", "computes DCNv3's sampling 2 times (1 in m.0.layer, line"),
    ("dcnv3", SecondDropsItsOffsets): ("wrong", "offset"),
}
