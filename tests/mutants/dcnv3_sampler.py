"""A right DCNv3 core, one step a method: what the planted bugs change one step of."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import torch


@dataclass(frozen=True)
class Mutant:
    name: str
    description: str
    function: Callable


class Sampler:
    """DCNv3's sampling. `c` holds the call's settings and sizes N H W C Ho Wo D (channels of a group)."""

    def __call__(self, x, offset, mask, **settings):
        c = SimpleNamespace(**settings)
        c.N, c.H, c.W, c.C = x.shape
        c.Ho, c.Wo = offset.shape[1:3]
        c.G, c.D = c.group, c.C // c.group
        wide = self.precision(x.dtype)
        images = self.images(c, x.to(wide))
        offset = self.offsets(c, self.split(c, offset.to(wide), 2))
        weights = self.weights(c, self.split(c, mask.to(wide), 1).squeeze(-1))
        at_x, at_y = self.locations(c, offset)
        samples = self.samples(c, images, at_x, at_y)
        return self.joined(c, self.summed(c, samples, weights)).to(x.dtype)

    def precision(self, dtype):
        return torch.float64 if dtype == torch.float64 else torch.float32

    def images(self, c, x):
        """(N, H, W, G, D)."""
        return x.reshape(c.N, c.H, c.W, c.G, c.D)

    def split(self, c, values, parts):
        """(N, Ho, Wo, G*P*parts) -> (N, Ho, Wo, G, P, parts)."""
        return values.reshape(c.N, c.Ho, c.Wo, c.G, values.shape[-1] // (c.G * parts), parts)

    def joined(self, c, out):
        """(N, Ho, Wo, G, D) -> (N, Ho, Wo, C)."""
        return out.reshape(c.N, c.Ho, c.Wo, c.C)

    def offsets(self, c, pairs):
        return pairs

    def weights(self, c, mask):
        return mask

    def half(self, c):
        return (c.dilation * (c.kernel_size - 1)) >> 1

    def middle(self, c):
        return c.kernel_size**2 // 2

    def points(self, c):
        return [(i, j) for i in range(c.kernel_size) for j in range(c.kernel_size)]

    def steps(self, c):
        return c.dilation, c.dilation

    def strides(self, c):
        return c.stride, c.stride

    def pads(self, c):
        return c.pad, c.pad

    def scaled(self, c, grid, offset):
        return (grid + offset) * c.offset_scale

    def locations(self, c, offset):
        """x and y, (N, Ho, Wo, G, P) each."""
        points = self.points(c)
        if c.remove_center:
            del points[self.middle(c)]
        grid = torch.tensor(points, dtype=offset.dtype) * torch.tensor(self.steps(c)) - self.half(c)
        moved = self.scaled(c, grid, offset)
        columns = torch.arange(c.Wo).view(-1, 1, 1) * self.strides(c)[0] - self.pads(c)[0] + self.half(c)
        lines = torch.arange(c.Ho).view(-1, 1, 1, 1) * self.strides(c)[1] - self.pads(c)[1] + self.half(c)
        return columns + moved[..., 0], lines + moved[..., 1]

    def counts(self, c, x, y):
        return (x > -1) & (x < c.W) & (y > -1) & (y < c.H)

    def first(self, at):
        return at.detach().floor()

    def corner(self, c, fraction, second):
        return fraction if second else 1 - fraction

    def inside(self, c, line, column):
        return (line >= 0) & (line < c.H) & (column >= 0) & (column < c.W)

    def read(self, c, images, line, column, inside):
        """(N, Ho, Wo, G, P, D), zero where not inside."""
        n = torch.arange(c.N).view(-1, 1, 1, 1, 1)
        g = torch.arange(c.G).view(-1, 1)
        line, column = torch.where(inside, line, 0).long(), torch.where(inside, column, 0).long()
        return torch.where(inside.unsqueeze(-1), images[n, line, column, g], 0)

    def samples(self, c, images, x, y):
        counts = self.counts(c, x, y)
        x, y = torch.where(counts, x, 0.5), torch.where(counts, y, 0.5)
        left, top = self.first(x), self.first(y)
        total = 0
        for lower in (0, 1):
            for right in (0, 1):
                line, column = top + lower, left + right
                weight = self.corner(c, y - top, lower) * self.corner(c, x - left, right)
                value = self.read(c, images, line, column, self.inside(c, line, column) & counts)
                total = total + weight.unsqueeze(-1) * value
        return total

    def summed(self, c, samples, weights):
        return (samples * weights.unsqueeze(-1)).sum(-2)


RIGHT = Sampler()
