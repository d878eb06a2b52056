"""CARAFE modules as people spell them, right and wrong, written for the tests: `EXPECTED` says which, in what words."""

import torch
import torch.nn.functional as F
from torch import nn


def conv_bn(c1, c2, k=1, act=True):
    return nn.Sequential(
        nn.Conv2d(c1, c2, k, padding=k // 2, bias=False), nn.BatchNorm2d(c2), nn.SiLU() if act else nn.Identity()
    )


# --- right ------------------------------------------------------------------------------------------------------


class UnfoldEinsum(nn.Module):
    """Conv-BN-SiLU branch, nearest upsampling, dilated unfold, einsum; attributes called otherwise than anyone's."""

    def __init__(self, c, k_enc=3, k_up=5, c_mid=64, scale=2):
        super().__init__()
        self.scale = scale
        self.squeeze = conv_bn(c, c_mid)
        self.predict = conv_bn(c_mid, (scale * k_up) ** 2, k_enc, act=False)
        self.shuffle = nn.PixelShuffle(scale)
        self.larger = nn.Upsample(scale_factor=scale, mode="nearest")
        self.windows = nn.Unfold(k_up, dilation=scale, padding=k_up // 2 * scale)

    def weights(self, x):
        return self.shuffle(self.predict(self.squeeze(x))).softmax(1)

    def forward(self, x):
        b, c, h, w = x.shape
        taps = self.windows(self.larger(x)).view(b, c, -1, h * self.scale, w * self.scale)
        return torch.einsum("bkhw,bckhw->bchw", self.weights(x), taps)


class MatmulThenShuffle(nn.Module):
    """Windows by Tensor.unfold, one matrix product a pixel, pixel shuffle behind, and a 1x1 convolution to c2."""

    def __init__(self, c1, c2, kernel_size=3, up_factor=2):
        super().__init__()
        self.k, self.s = kernel_size, up_factor
        self.down = nn.Conv2d(c1, max(c1 // 4, 1), 1)
        self.encoder = nn.Conv2d(max(c1 // 4, 1), up_factor**2 * kernel_size**2, kernel_size, 1, kernel_size // 2)
        self.out = nn.Conv2d(c1, c2, 1)

    def forward(self, x):
        N, C, H, W = x.shape
        k, s = self.k, self.s
        weights = F.softmax(F.pixel_shuffle(self.encoder(self.down(x)), s), dim=1)
        weights = weights.unfold(2, s, step=s).unfold(3, s, step=s).reshape(N, k * k, H, W, s * s)
        weights = weights.permute(0, 2, 3, 1, 4)
        windows = F.pad(x, (k // 2,) * 4).unfold(2, k, 1).unfold(3, k, 1).reshape(N, C, H, W, -1)
        out = torch.matmul(windows.permute(0, 2, 3, 1, 4), weights)
        return self.out(F.pixel_shuffle(out.reshape(N, H, W, -1).permute(0, 3, 1, 2), s))


class PerChild(nn.Module):
    """Softmax before the children are laid out, over the taps of each: the same numbers."""

    def __init__(self, in_channels, compressed=16, k=5, s=2):
        super().__init__()
        self.k, self.s = k, s
        self.reduce = nn.Conv2d(in_channels, compressed, 1)
        self.kernel = nn.Conv2d(compressed, k * k * s * s, 3, padding=1)

    def forward(self, x):
        n, c, h, w = x.shape
        weights = self.kernel(self.reduce(x)).view(n, self.k**2, self.s**2, h, w).softmax(1)
        windows = F.unfold(x, self.k, padding=self.k // 2).view(n, c, self.k**2, 1, h, w)
        out = (windows * weights.unsqueeze(1)).sum(2)
        return F.pixel_shuffle(out.flatten(1, 2), self.s)


class Grouped(nn.Module):
    """Two groups of channels, taps added one by one, batch norm behind."""

    def __init__(self, dim, groups=2, k=3, s=2):
        super().__init__()
        self.groups, self.k, self.s = groups, k, s
        self.encode = nn.Sequential(
            nn.Conv2d(dim, 16, 1), nn.ReLU(inplace=True), nn.Conv2d(16, groups * k * k * s * s, 3, padding=1)
        )
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x):
        n, c, h, w = x.shape
        weights = (
            F.pixel_shuffle(self.encode(x), self.s).view(n, self.groups, self.k**2, h * self.s, w * self.s).softmax(2)
        )
        padded = F.pad(x, (self.k // 2,) * 4)
        out = 0
        for i in range(self.k):
            for j in range(self.k):
                tap = padded[:, :, i : i + h, j : j + w].repeat_interleave(self.s, 2).repeat_interleave(self.s, 3)
                out = out + tap.view(n, self.groups, -1, h * self.s, w * self.s) * weights[:, :, i * self.k + j, None]
        return self.norm(out.view(n, c, h * self.s, w * self.s))


class ColumnByColumn(UnfoldEinsum):
    """Taps counted column by column: learned weights know no order."""

    def forward(self, x):
        b, c, h, w = x.shape
        k = self.windows.kernel_size
        taps = (
            self.windows(self.larger(x)).view(b, c, k, k, h * self.scale, w * self.scale).transpose(2, 3).flatten(2, 3)
        )
        return torch.einsum("bkhw,bckhw->bchw", self.weights(x), taps)


class ChannelsLast(nn.Module):
    """(N, H, W, C) in and out."""

    def __init__(self, dim, k=5, s=2):
        super().__init__()
        self.k, self.s = k, s
        self.norm = nn.LayerNorm(dim)
        self.compress = nn.Linear(dim, 16)
        self.encode = nn.Conv2d(16, (k * s) ** 2, 3, padding=1)

    def forward(self, x):
        n, h, w, c = x.shape
        logits = self.encode(self.compress(self.norm(x)).permute(0, 3, 1, 2))
        weights = F.pixel_shuffle(logits, self.s).permute(0, 2, 3, 1).softmax(-1)
        windows = F.unfold(x.permute(0, 3, 1, 2), self.k, padding=self.k // 2).view(n, c * self.k**2, h, w)
        windows = F.interpolate(windows, scale_factor=self.s).view(n, c, self.k**2, h * self.s, w * self.s)
        return torch.einsum("nyxk,nckyx->nyxc", weights, windows)


class Projected(nn.Module):
    """x is projected first; the output comes with its weights in a tuple."""

    def __init__(self, inc, ouc):
        super().__init__()
        self.value = nn.Conv2d(inc, ouc, 1)
        self.up = UnfoldEinsum(ouc, k_up=3, c_mid=32)

    def forward(self, x):
        out = self.up(self.value(x))
        return out, out.mean((2, 3))


class Neck(nn.Module):
    """Wrapped: upsampled, concatenated with another branch, mixed."""

    def __init__(self, c1, c2):
        super().__init__()
        self.up = MatmulThenShuffle(c1, c2)
        self.other = nn.ConvTranspose2d(c1, c2, 2, 2)
        self.mix = conv_bn(2 * c2, c2, 3)

    def forward(self, x):
        return self.mix(torch.cat((self.up(x), self.other(x)), 1))


class ScaleThree(UnfoldEinsum):
    def __init__(self, channels):
        super().__init__(channels, k_up=3, c_mid=8, scale=3)


class ExponentialBySum(UnfoldEinsum):
    """A softmax written out."""

    def weights(self, x):
        logits = self.shuffle(self.predict(self.squeeze(x)))
        raised = torch.exp(logits - logits.amax(1, keepdim=True))
        return raised / raised.sum(1, keepdim=True)


class InPlace(UnfoldEinsum):
    """The result is gathered into a tensor that was made before."""

    def forward(self, x):
        b, c, h, w = x.shape
        weights = self.weights(x)
        taps = self.windows(self.larger(x)).view(b, c, -1, h * self.scale, w * self.scale)
        out = torch.zeros_like(taps[:, :, 0])
        for tap in range(taps.shape[2]):
            out += taps[:, :, tap] * weights[:, tap].unsqueeze(1)
        return out


# --- wrong ------------------------------------------------------------------------------------------------------


class WindowOnUpsampled(UnfoldEinsum):
    def __init__(self, c, k_up=5):
        super().__init__(c, k_up=k_up)
        self.windows = nn.Unfold(k_up, padding=k_up // 2)


class Reflected(UnfoldEinsum):
    def forward(self, x):
        b, c, h, w = x.shape
        k = 5
        padded = F.pad(x, (2, 2, 2, 2), mode="reflect")
        taps = F.unfold(padded, k).view(b, c * k * k, h, w)
        taps = self.larger(taps).view(b, c, k * k, 2 * h, 2 * w)
        return torch.einsum("bkhw,bckhw->bchw", self.weights(x), taps)


class SoftmaxBeforeShuffle(UnfoldEinsum):
    def weights(self, x):
        return self.shuffle(self.predict(self.squeeze(x)).softmax(1))


class SoftmaxOverColumns(UnfoldEinsum):
    def weights(self, x):
        return self.shuffle(self.predict(self.squeeze(x))).softmax(-1)


class SigmoidMask(UnfoldEinsum):
    def weights(self, x):
        return self.shuffle(self.predict(self.squeeze(x))).sigmoid()


class BilinearFake(nn.Module):
    """The name, and nothing of it."""

    def __init__(self, c1, c2):
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.conv = conv_bn(c1, c2)

    def forward(self, x):
        return self.conv(self.up(x))


class MaskDropped(UnfoldEinsum):
    """The mask is predicted; the result is interpolated."""

    def forward(self, x):
        self.weights(x)
        return self.larger(x)


class Deconvolution(nn.Module):
    def __init__(self, c1):
        super().__init__()
        self.up = nn.ConvTranspose2d(c1, c1, 4, 2, 1)

    def forward(self, x):
        return self.up(x)


class Scrambled(PerChild):
    """Children viewed, not shuffled, into place."""

    def forward(self, x):
        n, c, h, w = x.shape
        weights = self.kernel(self.reduce(x)).view(n, self.k**2, self.s**2, h, w).softmax(1)
        windows = F.unfold(x, self.k, padding=self.k // 2).view(n, c, self.k**2, 1, h, w)
        return (windows * weights.unsqueeze(1)).sum(2).reshape(n, c, h * self.s, w * self.s)


class StaticMask(nn.Module):
    """A mask that is learned, not predicted."""

    def __init__(self, channels, k=3):
        super().__init__()
        self.k = k
        self.logits = nn.Parameter(torch.randn(1, k * k, 22, 26))

    def forward(self, x):
        n, c, h, w = x.shape
        taps = F.interpolate(F.unfold(x, self.k, padding=1).view(n, c * 9, h, w), scale_factor=2)
        return (taps.view(n, c, 9, 2 * h, 2 * w) * self.logits.softmax(1).unsqueeze(1)).sum(2)


class ComputedAndDropped(UnfoldEinsum):
    def forward(self, x):
        out = super().forward(x)
        return self.larger(x) + 0 * out


# --- not judged -------------------------------------------------------------------------------------------------


class SomethingElse(nn.Module):
    """A gate of no operator."""

    def __init__(self, c1):
        super().__init__()
        self.gate = nn.Conv2d(c1, 4 * c1, 3, padding=1)

    def forward(self, x):
        return F.pixel_shuffle(self.gate(x).sigmoid() * torch.cat((x, -x, 2 * x, x), 1), 2)


EXPECTED = {
    UnfoldEinsum: ("right", "SiLU in the branch"),
    MatmulThenShuffle: ("right", "1x1 convolution behind the core"),
    PerChild: ("right", "computes CARAFE's reassembly"),
    Grouped: ("right", "batch norm behind the core"),
    ColumnByColumn: ("right", "counted in the order (kx, ky)"),
    ChannelsLast: ("right", "layer norm in the branch"),
    Projected: ("right", "1x1 convolution before the core"),
    Neck: ("right", "3x3 convolution behind the core"),
    ScaleThree: ("right", "SiLU in the branch"),
    ExponentialBySum: ("right", "SiLU in the branch"),
    InPlace: ("right", "SiLU in the branch"),
    WindowOnUpsampled: ("wrong", "window taken on the upsampled image"),
    Reflected: ("wrong", "reflected borders"),
    SoftmaxBeforeShuffle: ("wrong", "normalised over the k*k taps of one window and the children of a pixel"),
    SoftmaxOverColumns: ("wrong", "normalised over"),
    SigmoidMask: ("wrong", "not normalised"),
    BilinearFake: ("wrong", "bilinear interpolation; no mask takes part"),
    MaskDropped: ("wrong", "nearest-neighbour interpolation; no mask takes part"),
    Deconvolution: ("wrong", "affine function of its input"),
    Scrambled: ("wrong", "pixels end in other places"),
    StaticMask: ("wrong", "same for every input"),
    ComputedAndDropped: ("wrong", "does not reach the output"),
    SomethingElse: ("unknown", "was not found"),
}
