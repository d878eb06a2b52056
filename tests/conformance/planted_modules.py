"""Modules that break one promise each, and modules that keep them all. Written for the tests; line ends say where."""

import os
import time

import torch
from torch import nn
from torch.nn import functional as F


class Convolution(nn.Module):
    """Right: what most of the others begin with."""

    def __init__(self, c1):
        super().__init__()
        self.conv = nn.Conv2d(c1, c1, 3, padding=1)

    def forward(self, x):
        return self.conv(x)


# --- wrong --------------------------------------------------------------------------------------------------------


class MeanOverBatch(Convolution):
    def forward(self, x):
        y = self.conv(x)
        context = y.mean((0, 2, 3), keepdim=True)  # here
        return y * context.sigmoid()


class SoftmaxOverBatch(Convolution):
    def forward(self, x):
        y = self.conv(x)
        return y * torch.softmax(y, 0)  # here


class ThirdImage(Convolution):
    def forward(self, x):
        y = self.conv(x)
        return torch.cat([y[:2], y[2:] + y[:1].mean()]) if len(y) > 2 else y


class AttentionOverBatch(nn.Module):
    """A batch_first that was forgotten."""

    def __init__(self, dim):
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, 4)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)


class Unused(Convolution):
    def __init__(self, channels):
        super().__init__(channels)
        self.second = nn.Conv2d(channels, channels, 1)  # here


class Detached(Convolution):
    def __init__(self, in_channels):
        super().__init__(in_channels)
        self.scale = nn.Parameter(torch.ones(in_channels, 1, 1))  # here

    def forward(self, x):
        return self.conv(x) * self.scale.detach()


class Rounded(Convolution):
    def __init__(self, inc):
        super().__init__(inc)
        self.shift = nn.Parameter(torch.zeros(inc, 1, 1))  # here

    def forward(self, x):
        return self.conv(x) + torch.round(10 * self.shift)


class RandomInEvaluation(Convolution):
    def forward(self, x):
        return F.dropout(self.conv(x), 0.5)  # here


class CountsCalls(Convolution):
    def __init__(self, c):
        super().__init__(c)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.conv(x) * self.calls  # here


class ChangesInput(Convolution):
    def forward(self, x):
        x += 1  # here
        return self.conv(x)


class InplaceFirst(Convolution):
    def __init__(self, inplanes):
        super().__init__(inplanes)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.conv(self.act(x))  # here


class PlainTensor(Convolution):
    def __init__(self, c1):
        super().__init__(c1)
        self.weights = torch.linspace(0, 1, c1)[:, None, None]  # here

    def forward(self, x):
        return self.conv(x) * self.weights


class PlainList(Convolution):
    def __init__(self, c1):
        super().__init__(c1)
        self.branches = [nn.Conv2d(c1, c1, 1) for _ in range(2)]  # here

    def forward(self, x):
        return self.conv(x) + sum(branch(x) for branch in self.branches)


class OldCache(Convolution):
    grid = None

    def forward(self, x):
        if self.grid is None:
            self.grid = torch.ones(64, 64, dtype=x.dtype)
        return F.linear(self.conv(x).movedim(1, -1), self.grid).movedim(-1, 1)  # here


class RunningMean(Convolution):
    """A statistic of training that no state dict holds."""

    mean = 0.0

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean().item() + 1
        return self.conv(x) - self.mean


class DrawnOnce(Convolution):
    def __init__(self, c1):
        super().__init__(c1)
        self.order = torch.randperm(c1).tolist()

    def forward(self, x):
        return self.conv(x)[:, self.order]


class KeepsOutput(Convolution):
    def forward(self, x):
        self.last = self.conv(x)
        return self.last


class HoldsLambda(Convolution):
    def __init__(self, c1):
        super().__init__(c1)
        self.act = lambda x: x.relu()

    def forward(self, x):
        return self.act(self.conv(x))


# --- fragile ------------------------------------------------------------------------------------------------------


class SquaresOnly(Convolution):
    def forward(self, x):
        N, C, H, _ = x.shape
        return self.conv(x).reshape(N, C, H, H)  # here


class EvenOnly(Convolution):
    def forward(self, x):
        return self.conv(F.pixel_unshuffle(x, 2)[:, : x.shape[1]])  # here


class SwapsSides(Convolution):
    def forward(self, x):
        return self.conv(x).transpose(2, 3)


class NormAfterPooling(nn.Module):
    def __init__(self, c1):
        super().__init__()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c1, c1, 1, bias=False), nn.BatchNorm2d(c1))

    def forward(self, x):
        return x * self.pool(x).sigmoid()  # here


class SqueezesAll(Convolution):
    def forward(self, x):
        weights = self.conv(x).mean((2, 3)).squeeze()
        return x * weights[:, :, None, None]  # here


class Float32Table(Convolution):
    def forward(self, x):
        table = torch.eye(x.shape[1])
        return torch.einsum("nchw,cd->ndhw", self.conv(x), table)  # here


class HalfOverflows(Convolution):
    def forward(self, x):
        y = self.conv(x)
        return y * 1e5 / (y * 1e5).square().mean((1, 2, 3), keepdim=True).sqrt()


class WritesInto(Convolution):
    def forward(self, x):
        out = torch.zeros_like(x)
        out[x > 0] = self.conv(x)[x > 0]  # here
        return out


class Views(nn.Module):
    def __init__(self, c1):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(c1, 1, 1))

    def forward(self, x):
        return (x.view(len(x), -1) * 2).view(x.shape) * self.scale  # here


class LouderInTraining(Convolution):
    def forward(self, x):
        y = self.conv(x)
        return 2 * y if self.training else y


class KeepsHistory(Convolution):
    def __init__(self, c1):
        super().__init__(c1)
        self.history = []

    def forward(self, x):
        y = self.conv(x)
        self.history.append(y.detach().mean())  # here
        return y


class Exponential(Convolution):
    def forward(self, x):
        weights = self.conv(x).exp()  # here
        return x * weights / weights.sum(1, keepdim=True)


class SoftmaxOverOne(Convolution):
    def __init__(self, c1):
        super().__init__(c1)
        self.attention = nn.Conv2d(c1, 1, 1)  # here

    def forward(self, x):
        return self.conv(x) * self.attention(x).softmax(1)


# --- not judged, or not to be survived ----------------------------------------------------------------------------


class NeedsMore(Convolution):
    def __init__(self, c1, kernel_size, stride):
        super().__init__(c1)


class RaisesInConstructor(nn.Module):
    def __init__(self, c1):
        super().__init__()
        raise ValueError("no such luck")


class TwoInputs(Convolution):
    def forward(self, x, y):
        return self.conv(x + y)


class Hangs(Convolution):
    def forward(self, x):
        time.sleep(1000)


class Slow(Convolution):
    def forward(self, x):
        time.sleep(0.4)
        return self.conv(x)


class HangsInHalf(Convolution):
    def forward(self, x):
        if x.dtype is torch.float16:
            time.sleep(1000)
        return self.conv(x)


class DiesInTraining(Convolution):
    def forward(self, x):
        if self.training:
            os._exit(3)
        return self.conv(x)


class FloodsInTraining(Convolution):
    def forward(self, x):
        if self.training:
            held = []
            while True:
                held.append(torch.ones(1 << 24))
        return self.conv(x)


def function(x):
    return x


# --- innocent -----------------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.conv, self.bn, self.act = nn.Conv2d(c1, c2, 3, padding=1), nn.BatchNorm2d(c2), nn.SiLU(inplace=True)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Attention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(dim), nn.MultiheadAttention(dim, 4, batch_first=True)

    def forward(self, x):
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        return x + self.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)


class KeyBias(nn.Module):
    """Softmax takes the bias of the keys away; gamma begins with 0, so that nothing shows but what is drawn."""

    def __init__(self, in_dim):
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(in_dim, in_dim, 1) for _ in range(3))
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        weights = torch.softmax(self.query(x).flatten(2).transpose(1, 2) @ self.key(x).flatten(2), -1)
        return x + self.gamma * (self.value(x).flatten(2) @ weights.transpose(1, 2)).reshape(x.shape)


class Dropped(Convolution):
    def __init__(self, n_feat):
        super().__init__(n_feat)
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        return F.dropout(self.drop(self.conv(x)), 0.2, self.training)


class Grouped(nn.Module):
    def __init__(self, in_planes, out_planes):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(in_planes, out_planes, 3, 2, 1), nn.GroupNorm(8, out_planes)

    def forward(self, x):
        return F.gelu(self.norm(self.conv(x)))


class GroupsInBatch(nn.Module):
    """Channel groups in the first axis for a while: not a mixing of images."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels // 8, channels // 8, 3, padding=1)

    def forward(self, x):
        groups = x.reshape(len(x) * 8, -1, *x.shape[2:])
        return (groups * self.conv(groups).flatten(2).softmax(-1).view_as(groups)).reshape(x.shape)


class FreshCache(Convolution):
    grid = None

    def forward(self, x):
        if self.grid is None or (self.grid.shape, self.grid.dtype) != (x.shape[-1:], x.dtype):
            self.grid = torch.linspace(0, 1, x.shape[-1], dtype=x.dtype, device=x.device)
        return self.conv(x) * self.grid


class KernelsOfEachImage(nn.Module):
    """Images side by side in the channels of one grouped convolution, under weights of five axes."""

    def __init__(self, in_planes, out_planes):
        super().__init__()
        self.route = nn.Linear(in_planes, 4)
        self.weight = nn.Parameter(torch.randn(4, out_planes, in_planes, 3, 3))

    def forward(self, x):
        N, C, H, W = x.shape
        weight = torch.einsum("nk,koihw->noihw", self.route(x.mean((2, 3))).softmax(-1), self.weight)
        out = F.conv2d(x.reshape(1, N * C, H, W), weight.flatten(0, 1), padding=1, groups=N)
        return out.view(N, -1, H, W)


class ChannelsLast(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(dim), nn.Linear(dim, dim)

    def forward(self, x):
        return self.linear(self.norm(x))


upsample = nn.Upsample(scale_factor=2)
lazy = nn.Sequential(nn.LazyConv2d(8, 3, padding=1), nn.ReLU())
weight_normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3))
scripted = torch.jit.script(nn.ReLU())
image_net_stem = nn.Conv2d(3, 16, 3, 2, 1)
