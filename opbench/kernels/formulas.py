"""What the kernels compute, in plain torch operations: what autograd differentiates where it is to do so twice.

A kernel has a gradient, written by hand, and no gradient of that. Where one is asked for it is taken of these formulas
(`opbench.kernels.twice`), which hold every product in memory. They sum in float32 at least, and use no grid_sample,
which older releases of torch can't differentiate twice. `window_samples` is exported too: runtimes know its operations.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.kernels.dcnv4_packed import unpack
from opbench.kernels.geometry import Geometry


def reassembled(x: Tensor, mask: Tensor, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """CARAFE: x (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W)."""
    N, C, H, W = x.shape
    k, g, s, r = kernel_size, group_size, scale_factor, kernel_size // 2
    sums = torch.promote_types(x.dtype, torch.float32)
    wide = F.pad(x.to(sums), (r, r, r, r)).reshape(N, g, C // g, H + 2 * r, 1, W + 2 * r, 1)
    weights = mask.to(sums).reshape(N, g, k, k, H, s, W, s)
    rows, columns = outside(H, k, x.device), outside(W, k, x.device)
    out = x.new_zeros((N, g, C // g, H, s, W, s), dtype=sums)
    for iy, ix in product(range(k), repeat=2):
        # A tap outside contributes nothing, whatever the mask holds there: zero times NaN would.
        lost = rows[:, iy].view(H, 1, 1, 1) | columns[:, ix].view(W, 1)
        weight = weights[:, :, iy, ix].masked_fill(lost, 0).unsqueeze(2)
        out = out + wide[:, :, :, iy : iy + H, :, ix : ix + W] * weight
    return out.reshape(N, C, s * H, s * W).to(x.dtype)


def reassembled_from_logits(x: Tensor, logits: Tensor, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """The same of a mask that is predicted: logits (N, s*s*g*k*k, H, W), pixels to be shuffled, then a softmax."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    taps = F.pixel_shuffle(logits.to(wide), scale_factor).unflatten(1, (group_size, kernel_size**2))
    return reassembled(x, taps.softmax(2).flatten(1, 2), kernel_size, group_size, scale_factor)


def outside(size: int, kernel_size: int, device: torch.device) -> Tensor:
    """(size, kernel_size) booleans along one axis: does this tap of this pixel's window fall outside the image?"""
    position = torch.arange(size, device=device).unsqueeze(1) + torch.arange(kernel_size, device=device)
    position = position - kernel_size // 2
    return (position < 0) | (position >= size)


def samples(x: Tensor, column: Tensor, line: Tensor, weights: Tensor, group: int, points: int) -> Tensor:
    """x (N, H, W, C), places and weights (N, V, U, G*P) -> (N, V, U, G, P, C/G): weighed bilinear samples.

    Outside x there are zeros: a sample counts where -1 < column < W and -1 < line < H. All four corners of every sample
    are written down (4P times the output); no size is known here alone, so that an exported graph keeps it free.
    """
    batch, height, width, channels = x.shape
    dtype = column.dtype
    counts = (column > -1) & (column < width) & (line > -1) & (line < height)
    # A location that doesn't count may be NaN: it is replaced before anything is computed from it.
    column, line = torch.where(counts, column, 0.0), torch.where(counts, line, 0.0)
    weight = torch.where(counts, weights.to(dtype), 0.0)
    left, top = column.floor(), line.floor()
    right_share, lower_share = column - left, line - top
    numbers, shares = [], []
    images = torch.arange(batch, device=x.device).view(batch, 1, 1, 1) * height
    groups = torch.arange(group, device=x.device).repeat_interleave(points)
    for row, row_share in ((top, 1 - lower_share), (top + 1, lower_share)):
        for place, share in ((left, 1 - right_share), (left + 1, right_share)):
            inside = (row >= 0) & (row < height) & (place >= 0) & (place < width)
            pixel = (images + row.clamp(min=0).long().clamp(max=height - 1)) * width
            pixel = pixel + place.clamp(min=0).long().clamp(max=width - 1)
            numbers.append(pixel * group + groups)
            shares.append(weight * row_share * share * inside.to(dtype))
    rows = x.to(dtype).reshape(batch * height * width * group, channels // group)
    corners = rows.index_select(0, torch.stack(numbers, -1).reshape(-1))
    shape = (*weights.shape[:3], group, points)
    corners = corners.reshape(*shape, 4, channels // group)
    # A sum, not a product of matrices: runtimes have no fast path for a million products of 1x4 by 4xC.
    return (corners * torch.stack(shares, -1).reshape(*shape, 4, 1)).sum(-2).to(x.dtype)


def window_samples(x: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry, reduce: bool = True) -> Tensor:
    """Deformable convolutions': x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P) -> (N, Ho, Wo, C).

    Without `reduce` the samples aren't added up: (N, Ho, Wo, G, P, C/G), each times its mask.
    """
    column, line = geometry.locations(offset.to(torch.promote_types(x.dtype, torch.float32)))
    found = samples(x, column, line, mask, geometry.group, geometry.points)
    return found.sum(-2).flatten(-2) if reduce else found


def windowed(x: Tensor, offset: Tensor, mask: Tensor, *parameters: Any) -> Tensor:
    """DCNv3: x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P) -> (N, Ho, Wo, C)."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return window_samples(x.to(wide), offset, mask, _geometry(parameters)).to(x.dtype)


def windowed_from_logits(x: Tensor, offset: Tensor, logits: Tensor, *parameters: Any) -> Tensor:
    """The same with a softmax over the points of each group."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    masks = logits.to(wide).unflatten(-1, (_geometry(parameters).group, -1)).softmax(-1)
    return windowed(x, offset, masks.flatten(-2), *parameters)


def packed(x: Tensor, offset_mask: Tensor, *parameters: Any) -> Tensor:
    """DCNv4: x (N, H, W, C), offset_mask (N, Ho, Wo, M), of each group 2P offsets and then P masks."""
    return windowed(x, *_unpacked(offset_mask, parameters), *parameters)


def packed_from_logits(x: Tensor, offset_mask: Tensor, *parameters: Any) -> Tensor:
    """The same with a softmax over the points of each group."""
    return windowed_from_logits(x, *_unpacked(offset_mask, parameters), *parameters)


def _unpacked(offset_mask: Tensor, parameters: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    geometry = _geometry(parameters)
    return unpack(offset_mask, geometry.group, geometry.points)


def _geometry(parameters: tuple[Any, ...]) -> Geometry:
    """Of an operation's parameters; the eighth, which some have, says how gradients are added up."""
    size, stride, pad, dilation, group, offset_scale, remove_center, *_ = parameters
    return Geometry(size, stride, pad, dilation, group, offset_scale, remove_center)


def resampled(x: Tensor, offset: Tensor, scale: int, groups: int, *rest: Any) -> Tensor:
    """DySample: x (N, C, H, W), offset (N, 2*G*s*s, H, W) in pixels -> (N, C, s*H, s*W)."""
    N, C, H, W = x.shape
    moves = F.pixel_shuffle(offset, scale).view(N, 2, groups, scale * H, scale * W).permute(1, 0, 3, 4, 2)
    across, down = (torch.arange(n, dtype=offset.dtype, device=x.device).repeat_interleave(scale) for n in (W, H))
    column, _ = _held(across.view(-1, 1) + moves[0], W)
    line, _ = _held(down.view(-1, 1, 1) + moves[1], H)
    pixels = x.permute(0, 2, 3, 1).to(offset.dtype)
    found = samples(pixels, column, line, torch.ones_like(column), groups, 1)
    return found.reshape(N, scale * H, scale * W, C).permute(0, 3, 1, 2).to(x.dtype)


def positioned(x: Tensor, positions: Tensor, weights: Tensor | None, group: int, padding: str, first: str) -> Tensor:
    """Samples at any positions: x (N, H, W, C), positions (N, V, U, G*P*2), weights (N, V, U, G*P) -> (N, V, U, C)."""
    pairs = positions.unflatten(-1, (-1, 2))
    column, line = pairs.unbind(-1) if first == "x" else pairs.flip(-1).unbind(-1)
    weight = torch.ones_like(column) if weights is None else weights.to(column.dtype)
    if padding != "zeros":
        weight = torch.where(column.isnan() | line.isnan(), 0.0, weight)
        column, free_across = _held(column, x.shape[2])
        line, free_down = _held(line, x.shape[1])
        if padding == "border-twice":
            weight = weight * torch.where(free_across, 1.0, 2.0) * torch.where(free_down, 1.0, 2.0)
    found = samples(x.to(column.dtype), column, line, weight, group, column.shape[-1] // group)
    return found.sum(-2).flatten(-2).to(x.dtype)


def _held(at: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Places moved into the image, without a gradient where they were outside, and which of them were not moved."""
    free = (at >= 0) & (at < size - 1)
    # NaN is not above anything.
    still = at.detach()
    return torch.where(free, at, torch.where(still > 0, still, 0.0).clamp(max=size - 1)), free
