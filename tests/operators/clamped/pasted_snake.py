"""Dynamic snake convolution as YOLO forks paste it: its faults, each by itself and all at once, written anew.

Names, arguments and parameters are those of the forks; the arithmetic is theirs, too, in fewer lines.
"""

import torch
from torch import nn


class Conv(nn.Module):
    def __init__(self, c1, c2, k=1):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, padding=k // 2, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = nn.SiLU()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class DSConv(nn.Module):
    """One snake: `image_0` samples image 0 for all, `short` leaves out the last swing of either end."""

    image_0 = short = unused = True

    def __init__(self, in_ch, out_ch, morph, kernel_size=3, if_offset=True, extend_scope=1):
        super().__init__()
        self.offset_conv = nn.Conv2d(in_ch, 2 * kernel_size, 3, padding=1)
        self.bn = nn.BatchNorm2d(2 * kernel_size)
        k, other = (kernel_size, 1), (1, kernel_size)
        if morph == 0 or self.unused:
            self.dsc_conv_x = nn.Conv2d(in_ch, out_ch, k, k)
        if morph == 1 or self.unused:
            self.dsc_conv_y = nn.Conv2d(in_ch, out_ch, other, other)
        self.gn = nn.GroupNorm(out_ch // 4, out_ch)
        self.act = nn.SiLU()
        self.kernel_size, self.morph, self.extend_scope, self.if_offset = kernel_size, morph, extend_scope, if_offset

    def forward(self, f):
        offset = torch.tanh(self.bn(self.offset_conv(f)))
        k, middle = self.kernel_size, self.kernel_size // 2
        N, _, H, W = f.shape
        own = offset[:, :k] if self.morph == 0 else offset[:, k:]
        swing = own.detach().clone()
        swing[:, middle] = 0
        for index in range(1, middle if self.short else middle + 1):
            swing[:, middle + index] = swing[:, middle + index - 1] + own[:, middle + index]
            swing[:, middle - index] = swing[:, middle - index + 1] + own[:, middle - index]
        steps = torch.arange(-middle, middle + 1, dtype=f.dtype).view(k, 1, 1)
        y = torch.arange(H, dtype=f.dtype).view(H, 1).expand(N, k, H, W)
        x = torch.arange(W, dtype=f.dtype).expand(N, k, H, W)
        y, x = (y + swing, x + steps) if self.morph == 0 else (y + steps, x + swing)
        samples = self.bilinear(f, y * 1.0, x * 1.0)
        if self.morph == 0:
            out = self.dsc_conv_x(samples.permute(0, 1, 3, 2, 4).flatten(2, 3))
        else:
            out = self.dsc_conv_y(samples.permute(0, 1, 3, 4, 2).flatten(3, 4))
        return self.act(self.gn(out))

    def bilinear(self, f, y, x):
        """(N, C, k, H, W): a cell's corners are held in the image, its weights in the image and one pixel more."""
        N, C, H, W = f.shape
        rows = f.permute(0, 2, 3, 1).reshape(-1, C)
        base = (torch.arange(N) * H * W).view(N, 1, 1, 1) * (not self.image_0)
        total = 0
        for below in (0, 1):
            for right in (0, 1):
                at_y, at_x = y.floor() + below, x.floor() + right
                index = base + at_y.clamp(0, H - 1).long() * W + at_x.clamp(0, W - 1).long()
                ends = (y.floor() + 1 - below).clamp(0, H), (x.floor() + 1 - right).clamp(0, W)
                weight = (ends[0] - y) * (1 - 2 * below) * (ends[1] - x) * (1 - 2 * right)
                total = total + rows[index.flatten()].view(*index.shape, C) * weight.unsqueeze(-1)
        return total.permute(0, 4, 1, 2, 3)


class SampledImage0(DSConv):
    short = unused = False


class WithoutGradients(DSConv):
    image_0 = unused = False


class WithUnusedBranch(DSConv):
    image_0 = short = False


class DySnakeConv(nn.Module):
    """As pasted, all faults at once, and fused."""

    snake = DSConv

    def __init__(self, inc, ouc, k=3):
        super().__init__()
        self.conv_0 = Conv(inc, ouc, k)
        self.conv_x = self.snake(inc, ouc, 0, k)
        self.conv_y = self.snake(inc, ouc, 1, k)
        self.conv_1x1 = Conv(3 * ouc, ouc)

    def forward(self, x):
        return self.conv_1x1(torch.cat((self.conv_0(x), self.conv_x(x), self.conv_y(x)), 1))


class AllSampleImage0(DySnakeConv):
    """The batch's base index is subtracted again: every image samples image 0."""

    snake = SampledImage0


class OffsetsWithoutGradient(DySnakeConv):
    """The swings of the ends are left out: at k=3 the offsets' convolution gets no gradient."""

    snake = WithoutGradients


class UnusedBranch(DySnakeConv):
    """Each snake builds both directions and calls one."""

    snake = WithUnusedBranch
