"""Which points of an image deformable convolutions sample, whatever samples them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """Which points every output pixel samples.

    `first` names the axis that comes first in an offset pair and is the outer one in the order of the points: "x"
    for DCNv3, "y" for DCNv2. P = kernel_size**2, less one with `remove_center`.
    """

    kernel_size: int
    stride: int
    pad: int
    dilation: int
    group: int
    offset_scale: float = 1.0
    remove_center: bool = False
    first: Literal["x", "y"] = "x"

    @property
    def points(self) -> int:
        """P, the sampling points of one output pixel and group."""
        return self.kernel_size**2 - self.remove_center

    def locations(self, offset: Tensor) -> tuple[Tensor, Tensor]:
        """offset (N, Ho, Wo, G*P*2) -> x and y of the points in pixels of the unpadded input, (N, Ho, Wo, G*P) each."""
        batch, height, width, _ = offset.shape
        pairs = offset.view(batch, height, width, self.group * self.points, 2)
        half = (self.dilation * (self.kernel_size - 1)) >> 1
        outer, inner = self._window(offset, half)
        if self.first == "x":
            x_steps, x_offset, y_steps, y_offset = outer, pairs[..., 0], inner, pairs[..., 1]
        else:
            x_steps, x_offset, y_steps, y_offset = inner, pairs[..., 1], outer, pairs[..., 0]
        columns = torch.arange(width, device=offset.device) * self.stride + (half - self.pad)
        lines = torch.arange(height, device=offset.device) * self.stride + (half - self.pad)
        x_base = columns.to(offset.dtype).view(width, 1) + x_steps
        y_base = lines.to(offset.dtype).view(height, 1, 1) + y_steps
        return (
            torch.add(x_base, x_offset, alpha=self.offset_scale),
            torch.add(y_base, y_offset, alpha=self.offset_scale),
        )

    def _window(self, like: Tensor, half: int) -> tuple[Tensor, Tensor]:
        """The steps of the points along the outer and the inner axis, (G*P) each."""
        if like.is_cuda and not torch.compiler.is_compiling():
            # Nothing is copied from the host: a CUDA graph that is being captured forbids it.
            steps = torch.arange(self.kernel_size, dtype=torch.float64, device=like.device) * self.dilation - half
            window = torch.cartesian_prod(steps, steps).mul(self.offset_scale).to(like.dtype)
            if self.remove_center:
                window = torch.cat((window[: self.points // 2], window[self.points // 2 + 1 :]))
            table = window.repeat(self.group, 1)
            return table[:, 0], table[:, 1]
        # A table, not arithmetic on point numbers: compiled, that would divide integers for every location.
        values = [(i * self.dilation - half) * self.offset_scale for i in range(self.kernel_size)]
        points = [(outer, inner) for outer in values for inner in values]
        if self.remove_center:
            del points[len(points) // 2]
        outer, inner = torch.tensor(points * self.group, dtype=like.dtype, device=like.device).unbind(1)
        return outer, inner

    def pair(self, x: Tensor, y: Tensor) -> Tensor:
        """x and y components in the order of an offset pair, along a new last axis."""
        return torch.stack((x, y) if self.first == "x" else (y, x), -1)
