"""DCNv3 and DCNv2 modules as people spell them, right and wrong, written for the tests; see `carafe_modules`."""

import torch
import torch.nn.functional as F
from torch import nn


def sampled(image, locations, mode="bilinear", border="zeros", aligned=False):
    """image (B, C, H, W), locations (B, Ho, Wo, P, 2) in pixels (x, y) -> (B, C, Ho, Wo, P)."""
    B, C, H, W = image.shape
    _, Ho, Wo, P, _ = locations.shape
    size = torch.tensor((W, H), dtype=image.dtype)
    grid = (2 * locations + 1) / size - 1 if not aligned else 2 * locations / (size - 1) - 1
    out = F.grid_sample(image, grid.reshape(B, Ho, Wo * P, 2), mode=mode, padding_mode=border, align_corners=False)
    return out.view(B, C, Ho, Wo, P)


class Deformable(nn.Module):
    """InternImage's layer with grid_sample, channels last; each wrong one exchanges one method."""

    def __init__(self, channels=32, kernel_size=3, group=4, offset_scale=1.0):
        super().__init__()
        self.k, self.group, self.offset_scale = kernel_size, group, offset_scale
        points = group * kernel_size**2
        self.dw_conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.to_offset = nn.Linear(channels, 2 * points)
        self.to_mask = nn.Linear(channels, points)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def features(self, x):
        return F.gelu(self.norm(self.dw_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)))

    def mask(self, features):
        n, h, w, _ = features.shape
        return self.to_mask(features).view(n, h, w, self.group, -1).softmax(-1)

    def offset(self, features):
        n, h, w, _ = features.shape
        return self.to_offset(features).view(n, h, w, self.group, -1, 2)

    def window(self, like):
        steps = torch.arange(self.k, dtype=like.dtype) - self.k // 2
        i, j = torch.meshgrid(steps, steps, indexing="ij")
        return torch.stack((i.flatten(), j.flatten()), -1)

    def centres(self, h, w, like):
        y, x = torch.meshgrid(torch.arange(h, dtype=like.dtype), torch.arange(w, dtype=like.dtype), indexing="ij")
        return torch.stack((x, y), -1).view(1, h, w, 1, 1, 2)

    def locations(self, offset):
        _, h, w, _, _, _ = offset.shape
        return self.centres(h, w, offset) + (self.window(offset) + offset) * self.offset_scale

    def sample(self, image, at):
        return sampled(image, at)

    def core(self, value, offset, mask):
        n, h, w, c = value.shape
        at = self.locations(offset).permute(0, 3, 1, 2, 4, 5).flatten(0, 1)
        image = value.reshape(n, h, w, self.group, -1).permute(0, 3, 4, 1, 2).flatten(0, 1)
        points = self.sample(image, at)
        weights = mask.permute(0, 3, 1, 2, 4).flatten(0, 1).unsqueeze(1)
        out = (points * weights).sum(-1)
        return out.view(n, c, h, w).permute(0, 2, 3, 1)

    def forward(self, x):
        features = self.features(x)
        return self.out(self.core(self.value(x), self.offset(features), self.mask(features)))


# --- right ------------------------------------------------------------------------------------------------------


class Scaled(Deformable):
    def __init__(self, channels):
        super().__init__(channels, offset_scale=2.0)


class LargeKernel(Deformable):
    def __init__(self, channels):
        super().__init__(channels, kernel_size=5, group=2)


class RowByRow(Deformable):
    """Points row by row, offsets (y, x): learned offsets know no order."""

    def window(self, like):
        return super().window(like).flip(-1)

    def offset(self, features):
        return super().offset(features).flip(-1)


class PaddedNormalised(nn.Module):
    """As InternImage's Python core: reference points and dilation grid in units of the padded image, in float32."""

    def __init__(self, channels, group=4):
        super().__init__()
        self.group, self.k = group, 3
        self.dw = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.offset = nn.Conv2d(channels, group * 18, 1)
        self.mask = nn.Conv2d(channels, group * 9, 1)
        self.input_proj, self.output_proj = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        n, c, h, w = x.shape
        features = F.relu(self.dw(x))
        offset = self.offset(features).permute(0, 2, 3, 1)
        mask = self.mask(features).permute(0, 2, 3, 1).reshape(n, h, w, self.group, 9).softmax(-1)
        image = F.pad(self.input_proj(x), (1, 1, 1, 1))
        H, W = h + 2, w + 2
        y, x_ = torch.meshgrid(torch.linspace(1.5, H - 1.5, h), torch.linspace(1.5, W - 1.5, w), indexing="ij")
        reference = torch.stack((x_ / W, y / H), -1).view(1, h, w, 1, 2)
        i, j = torch.meshgrid(torch.linspace(-1, 1, 3), torch.linspace(-1, 1, 3), indexing="ij")
        grid = torch.stack((i / W, j / H), -1).reshape(1, 1, 1, 9, 2).repeat(1, 1, 1, self.group, 1)
        units = torch.tensor((W, H)).view(1, 1, 1, 1, 2)
        at = reference + grid + offset.view(n, h, w, self.group * 9, 2) / units
        at = (2 * at - 1).view(n, h * w, self.group, 9, 2).transpose(1, 2).flatten(0, 1)
        points = F.grid_sample(image.view(n * self.group, -1, H, W), at.to(image.dtype), align_corners=False)
        weights = mask.reshape(n, h * w, self.group, 9).transpose(1, 2).reshape(n * self.group, 1, h * w, 9)
        out = (points * weights).sum(-1).view(n, c, h, w)
        return self.output_proj(out)


class Block(nn.Module):
    """Channels first: Conv-BN-SiLU, the layer, BN, SiLU."""

    def __init__(self, c1, c2):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(c1, c2, 1, bias=False), nn.BatchNorm2d(c2), nn.SiLU())
        self.layer = Deformable(c2)
        self.bn = nn.BatchNorm2d(c2)

    def forward(self, x):
        x = self.conv(x).permute(0, 2, 3, 1)
        return F.silu(self.bn(self.layer(x).permute(0, 3, 1, 2)))


class C2fBlock(nn.Module):
    """Split, one bottleneck, concatenated."""

    def __init__(self, c1, c2):
        super().__init__()
        self.half = c2 // 2
        self.first, self.last = nn.Conv2d(c1, c2, 1), nn.Conv2d(self.half * 3, c2, 1)
        self.inner = Block(self.half, self.half)

    def forward(self, x):
        a, b = self.first(x).chunk(2, 1)
        return self.last(torch.cat((a, b, b + self.inner(b)), 1))


class ScaledByCentre(Deformable):
    """The output blended with the projected input."""

    def __init__(self, channels):
        super().__init__(channels)
        self.blend = nn.Linear(channels, 4)

    def forward(self, x):
        features, value = self.features(x), self.value(x)
        out = self.core(value, self.offset(features), self.mask(features))
        sigma = self.blend(features).sigmoid().repeat_interleave(x.shape[-1] // 4, -1)
        return self.out(out * (1 - sigma) + value * sigma)


# --- wrong ------------------------------------------------------------------------------------------------------


class OffsetsDropped(Deformable):
    def locations(self, offset):
        return super().locations(torch.zeros_like(offset))


class MaskForgotten(Deformable):
    def core(self, value, offset, mask):
        return super().core(value, offset, torch.ones_like(mask))


class XYSwapped(Deformable):
    def sample(self, image, at):
        return sampled(image, at.flip(-1))


class NearestPixel(Deformable):
    def sample(self, image, at):
        return sampled(image, at, mode="nearest")


class ClampedBorder(Deformable):
    def sample(self, image, at):
        return sampled(image, at, border="border")


class AlignedCorners(Deformable):
    def sample(self, image, at):
        return sampled(image, at, aligned=True)


class NormalisedOffsets(Deformable):
    def locations(self, offset):
        _, h, w, _, _, _ = offset.shape
        return self.centres(h, w, offset) + self.window(offset) + offset * torch.tensor((w, h)) / 2


class UnscaledGrid(Scaled):
    def locations(self, offset):
        _, h, w, _, _, _ = offset.shape
        return self.centres(h, w, offset) + self.window(offset) + offset * self.offset_scale


class SoftmaxOverGroups(Deformable):
    def mask(self, features):
        n, h, w, _ = features.shape
        return self.to_mask(features).softmax(-1).view(n, h, w, self.group, -1)


class SigmoidWeights(Deformable):
    def mask(self, features):
        n, h, w, _ = features.shape
        return self.to_mask(features).view(n, h, w, self.group, -1).sigmoid()


class OffsetsUnread(Deformable):
    """Computed, and a plain convolution instead."""

    def __init__(self, channels):
        super().__init__(channels)
        self.plain = nn.Conv2d(channels, channels, 3, padding=1)

    def core(self, value, offset, mask):
        return self.plain(value.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) * mask.sum((-1, -2)).unsqueeze(-1)


class PlainConvolution(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, 3, padding=1)
        self.bn = nn.BatchNorm2d(c2)

    def forward(self, x):
        return self.bn(self.conv(x))


# --- DCNv2 ------------------------------------------------------------------------------------------------------


class GatheredV2(nn.Module):
    """Four corners by gather from the padded image, offsets as all y, then all x, a convolution of stride k."""

    def __init__(self, inc, outc, kernel_size=3, bias=None):
        super().__init__()
        self.k = kernel_size
        self.conv = nn.Conv2d(inc, outc, kernel_size, stride=kernel_size, bias=bias)
        self.p_conv = nn.Conv2d(inc, 2 * kernel_size**2, 3, padding=1)
        self.m_conv = nn.Conv2d(inc, kernel_size**2, 3, padding=1)

    def weights(self, x):
        return self.m_conv(x).sigmoid()

    def corners(self, x, offset):
        h, w = offset.shape[2:]
        K = self.k**2
        steps = torch.arange(self.k) - self.k // 2
        py, px = torch.meshgrid(steps, steps, indexing="ij")
        y, x_ = torch.meshgrid(torch.arange(h) + 1, torch.arange(w) + 1, indexing="ij")
        at = offset + torch.cat((py.flatten(), px.flatten())).view(1, 2 * K, 1, 1)
        at = at + torch.cat((y.expand(K, h, w), x_.expand(K, h, w))).unsqueeze(0)
        return at.permute(0, 2, 3, 1)

    def forward(self, x):
        offset, mask = self.p_conv(x), self.weights(x)
        K = self.k**2
        at = self.corners(x, offset)
        padded = F.pad(x, (1, 1, 1, 1))
        H, W = padded.shape[2:]
        low = at.detach().floor()
        y = at[..., :K].clamp(0, H - 1)
        x_ = at[..., K:].clamp(0, W - 1)
        total = 0
        for row in (0, 1):
            for column in (0, 1):
                r = (low[..., :K] + row).clamp(0, H - 1).long()
                c = (low[..., K:] + column).clamp(0, W - 1).long()
                weight = (1 - (y - r).abs()).clamp(min=0) * (1 - (x_ - c).abs()).clamp(min=0)
                inside = ((low[..., :K] + row) == r) & ((low[..., K:] + column) == c)
                index = (r * W + c).flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
                value = padded.flatten(2).gather(2, index).view(*x.shape[:2], *at.shape[1:3], K)
                total = total + value * (weight * inside).unsqueeze(1)
        total = total * mask.permute(0, 2, 3, 1).unsqueeze(1)
        n, c, h, w, _ = total.shape
        tiled = total.view(n, c, h, w, self.k, self.k).permute(0, 1, 2, 4, 3, 5).reshape(n, c, h * self.k, w * self.k)
        return self.conv(tiled)


class BlockV2(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.dcn = GatheredV2(c1, c2, bias=True)
        self.bn, self.act = nn.BatchNorm2d(c2), nn.SiLU()

    def forward(self, x):
        return self.act(self.bn(self.dcn(x)))


class UnmaskedV2(GatheredV2):
    """The mask is predicted, and forgotten."""

    def weights(self, x):
        return torch.ones_like(super().weights(x))


V3 = {
    Deformable: ("right", "computes DCNv3's sampling, and the module around it has what InternImage's layer has"),
    Scaled: ("right", "computes DCNv3's sampling"),
    LargeKernel: ("right", "computes DCNv3's sampling"),
    RowByRow: ("right", "counted in the order"),
    PaddedNormalised: ("right", "ReLU in the branch"),
    Block: ("right", "SiLU"),
    C2fBlock: ("right", "SiLU"),
    ScaledByCentre: ("right", "computes DCNv3's sampling"),
    OffsetsDropped: ("wrong", "offset"),
    MaskForgotten: ("wrong", "every weight 1, as DCNv1 does: no mask takes part"),
    XYSwapped: ("wrong", "x and y exchanged"),
    NearestPixel: ("wrong", "nearest pixel"),
    ClampedBorder: ("wrong", "clamped to the image"),
    AlignedCorners: ("wrong", "normalised for aligned corners"),
    NormalisedOffsets: ("wrong", "normalised units"),
    UnscaledGrid: ("wrong", "offset_scale on the offsets alone"),
    SoftmaxOverGroups: ("wrong", "normalised over groups and the points of one window and group"),
    SigmoidWeights: ("wrong", "not normalised"),
    OffsetsUnread: ("wrong", "its offset"),
    PlainConvolution: ("wrong", "affine function of its input"),
    GatheredV2: ("wrong", "computes DCNv2's convolution"),
}
V2 = {
    GatheredV2: ("right", "computes DCNv2's convolution"),
    BlockV2: ("right", "SiLU behind the core"),
    UnmaskedV2: ("wrong", "mask"),
    Deformable: ("wrong", "computes DCNv3's sampling"),
}
