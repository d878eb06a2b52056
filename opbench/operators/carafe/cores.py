"""CARAFE's reassembly in plain torch: the write-up's way (`unfold`), shift-and-add, and the graph to export (`slices`).

All keep the rule that a tap outside the image contributes nothing, whatever the mask holds there; `slices` in a plain
trace only for a mask that is finite there.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.kernels.formulas import outside, reassembled
from opbench.kernels.twice import asked_again, first_derivative
from opbench.operators.common.exporting import exporting, recording


def unfold(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """`x` (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W), as the YOLOv8 write-up computes it.

    Nearest upsampling, unfold with dilation s, einsum: k*k*s*s*C elements per input pixel pass through memory. The
    write-up's zero padding times an infinite mask would be NaN, hence the one step it lacks: the mask of taps outside
    the image is cleared. For finite masks the result is the write-up's, bit for bit.
    """
    N, C, H, W = x.shape
    k, g, s = kernel_size, group_size, scale_factor
    rows, columns = _outside(x, k, s)
    mask = _cleared(mask, rows, columns, g)
    windows = F.unfold(F.interpolate(x, scale_factor=s, mode="nearest"), k, dilation=s, padding=k // 2 * s)
    windows = windows.view(N, g, C // g, k * k, s * H, s * W)
    out = torch.einsum("ngkhw,ngckhw->ngchw", mask.reshape(N, g, k * k, s * H, s * W), windows)
    return out.reshape(N, C, s * H, s * W)


def slices(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """`x` (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W): k*k shifted slices of the upsampled image.

    Each is multiplied with its tap's mask and added; float16 and bfloat16 accumulate in float32. It is written for
    graphs that other runtimes execute: two operations of four axes a tap, every size taken from the inputs, and s*s*C
    elements an input pixel at a time where `unfold` writes k*k*s*s*C. Here it is slower than `shift_add`, which no
    exporter can write down.
    """
    _, C, H, W = x.shape
    k, g, s = kernel_size, group_size, scale_factor
    border = k // 2 * s
    dtype, sums = x.dtype, _SUM_DTYPE.get(x.dtype, x.dtype)
    x, mask = x.to(sums), mask.to(sums)
    if exporting() or not recording():
        # Left out of a plain trace, which goes to runtimes that have no such operation (ncnn): the border's zeros do
        # the same to every mask that is finite, as one that comes out of a softmax is.
        rows, columns = _outside(x, k, s)
        mask = _cleared(mask, rows, columns, g)
    wide = F.pad(F.interpolate(x, scale_factor=float(s), mode="nearest"), (border, border, border, border))

    def added(block: Tensor, weights: Tensor) -> Tensor:
        terms = (
            block[:, :, iy * s : iy * s + s * H, ix * s : ix * s + s * W] * weights[:, tap : tap + 1]
            for tap, (iy, ix) in enumerate(product(range(k), repeat=2))
        )
        return functools.reduce(torch.add, terms)

    blocks = zip(wide.split(C // g, 1), mask.split(k * k, 1), strict=True)
    out = torch.cat([added(*pair) for pair in blocks], 1) if g > 1 else added(wide, mask)
    return out.to(dtype)


def _outside(x: Tensor, k: int, s: int) -> tuple[Tensor, Tensor]:
    """Whether a tap is outside the image along each axis: (k, 1, s*H, 1) and (1, k, 1, s*W)."""
    H, W = x.shape[2:]
    rows = outside(H, k, x.device).repeat_interleave(s, 0).t().reshape(k, 1, s * H, 1)
    columns = outside(W, k, x.device).repeat_interleave(s, 0).t().reshape(1, k, 1, s * W)
    return rows, columns


def _cleared(mask: Tensor, rows: Tensor, columns: Tensor, g: int) -> Tensor:
    """The mask (N, g*k*k, s*H, s*W), 0 where a tap is outside the image."""
    return mask.masked_fill((rows | columns).flatten(0, 1).repeat(g, 1, 1), 0)


def shift_add(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """`x` (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W), one multiply-accumulate over the image per tap.

    The s*s children of a parent pixel are kept apart as phases. Rows of x, mask and accumulator share one pitch,
    W + k - 1, so that a tap is a constant offset into the zero-extended x, and a whole tile is one contiguous
    operation; the columns beyond W collect nothing because their mask is zero. Tiles are sized to stay in cache.
    float16 and bfloat16 accumulate in float32. Saves x and mask for backward, and nothing else.
    """
    out: Tensor = _ShiftAdd.apply(x, mask, _Settings(kernel_size, group_size, scale_factor))  # type: ignore[no-untyped-call]
    return out


class _Settings(NamedTuple):
    kernel_size: int
    group_size: int
    scale_factor: int


class _ShiftAdd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, settings: _Settings) -> Tensor:
        ctx.save_for_backward(x, mask)
        ctx.settings = settings
        return _forward(_Plan(x, settings), x, mask)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, mask = ctx.saved_tensors
        need_x, need_mask, _ = ctx.needs_input_grad
        if asked_again():
            again = first_derivative(
                lambda x, mask: reassembled(x, mask, *ctx.settings), grad, (x, mask), (need_x, need_mask)
            )
            return *again, None  # type: ignore[return-value]
        return (*_backward(_Plan(x, ctx.settings), grad, x if need_mask else None, mask if need_x else None), None)


class _Tap(NamedTuple):
    """One tap of the window: its place, its offset into the extended x, and the parents whose tap is in the image."""

    iy: int
    ix: int
    offset: int
    rows: slice
    columns: slice


class _Tile(NamedTuple):
    """What one pass over all taps covers: planes, channels and rows, and the same rows as a range of pitched pixels."""

    planes: slice
    channels: slice
    rows: slice
    pixels: slice


# Bytes of a tile's sums, and of its weights. CPU: both stay in a core's own cache (2 MiB on
# servers) while all taps pass. Elsewhere it only limits extra memory.
_TILE_BYTES = {"cpu": 1 << 20}
_TILE_BYTES_ELSEWHERE = 1 << 28
_SUM_DTYPE = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


class _Plan:
    """Sizes and layouts of one call: B = N*g planes of D = C/g channels, r = k//2, pitch = W + 2r."""

    def __init__(self, x: Tensor, settings: _Settings) -> None:
        self.k, g, self.s = settings
        # int(): while a model is traced, sizes are tensors.
        self.N, self.C, self.H, self.W = (int(size) for size in x.shape)
        self.B, self.D, self.r = self.N * g, self.C // g, self.k // 2
        self.pitch = self.W + 2 * self.r
        self.sums = x.new_empty(0, dtype=_SUM_DTYPE.get(x.dtype, x.dtype))
        self.taps = list(self._taps())
        self.tiles = list(self._tiles(_TILE_BYTES.get(x.device.type, _TILE_BYTES_ELSEWHERE)))

    def _taps(self) -> Iterator[_Tap]:
        for iy, ix in product(range(self.k), repeat=2):
            rows = slice(max(0, self.r - iy), min(self.H, self.H + self.r - iy))
            columns = slice(max(0, self.r - ix), min(self.W, self.W + self.r - ix))
            if rows.start < rows.stop and columns.start < columns.stop:
                yield _Tap(iy, ix, iy * self.pitch + ix, rows, columns)

    def _tiles(self, tile_bytes: int) -> Iterator[_Tile]:
        """Rows so that the weights of all taps take `tile_bytes`, then channels so that the sums do; rows outermost,
        so that the same weights meet every channel before the next rows replace them.
        """
        budget = tile_bytes // self.sums.element_size() // (self.s * self.s * self.pitch)
        rows = max(1, min(self.H, budget // len(self.taps)))
        channels = max(1, min(self.D, budget // rows))
        planes = max(1, budget // (rows * channels))
        for b, h, d in product(range(0, self.B, planes), range(0, self.H, rows), range(0, self.D, channels)):
            end = min(self.H, h + rows)
            pixels = slice(h * self.pitch, end * self.pitch)
            yield _Tile(slice(b, b + planes), slice(d, d + channels), slice(h, end), pixels)

    def extended(self) -> Tensor:
        """Zeros (B, D, (H + 2r)*pitch + 2r): room for x with its border, and for the last tap's overhang."""
        return self.sums.new_zeros(self.B, self.D, (self.H + 2 * self.r) * self.pitch + 2 * self.r)

    def image(self, extended: Tensor) -> Tensor:
        """The (B, D, H, W) view of the image inside `extended`."""
        bordered = extended[..., : (self.H + 2 * self.r) * self.pitch]
        rows: Tensor = bordered.unflatten(-1, (-1, self.pitch))
        return rows[..., self.r : self.r + self.H, self.r : self.r + self.W]

    def window(self, extended: Tensor, tap: _Tap, tile: _Tile) -> Tensor:
        """What `tap` reads of `extended` for the pixels of `tile`: (planes, channels, pixels)."""
        start, stop = tile.pixels.start + tap.offset, tile.pixels.stop + tap.offset
        return extended[tile.planes, tile.channels, start:stop]

    def children(self, tensor: Tensor, *leading: int) -> Tensor:
        """(N, channels, s*H, s*W) -> (B, *leading, s, s, H, W): the s*s children of each parent as phases."""
        shape = (self.B, *leading, self.H, self.s, self.W, self.s)
        return tensor.reshape(shape).movedim((-3, -1), (-4, -3))

    def pitched(self, phases: Tensor) -> Tensor:
        """(..., s, s, rows, W) -> (..., s*s, rows*pitch), zero beyond column W."""
        *leading, rows, _ = phases.shape
        wide = self.sums.new_zeros(*leading, rows, self.pitch)
        wide[..., : self.W] = phases
        return wide.flatten(-4, -3).flatten(-2)

    def unpitched(self, pixels: Tensor) -> Tensor:
        """The inverse of `pitched`: a view (..., s, s, rows, W)."""
        split: Tensor = pixels.unflatten(-2, (self.s, self.s)).unflatten(-1, (-1, self.pitch))
        return split[..., : self.W]

    def weights(self, mask: Tensor) -> Tensor:
        """The mask of every tap (taps, B, s*s, H*pitch): zero beyond column W and where the tap leaves the image."""
        phases = self.children(mask, self.k, self.k)
        wide = self.sums.new_zeros(len(self.taps), self.B, self.s, self.s, self.H, self.pitch)
        for tap, weight in zip(self.taps, wide, strict=True):
            weight[..., tap.rows, tap.columns] = phases[:, tap.iy, tap.ix, ..., tap.rows, tap.columns]
        return wide.flatten(2, 3).flatten(-2)


def _forward(plan: _Plan, x: Tensor, mask: Tensor) -> Tensor:
    extended = plan.extended()
    plan.image(extended).copy_(x.reshape(plan.B, plan.D, plan.H, plan.W))
    weights = plan.weights(mask)
    out = x.new_empty(plan.N, plan.C, plan.s * plan.H, plan.s * plan.W)
    children = plan.children(out, plan.D)
    for tile in plan.tiles:
        target = children[tile.planes, tile.channels, ..., tile.rows, :]
        planes, channels = target.shape[:2]
        sums = plan.sums.new_zeros(planes, channels, plan.s**2, tile.pixels.stop - tile.pixels.start)
        for tap, weight in zip(plan.taps, weights, strict=True):
            window = plan.window(extended, tap, tile).unsqueeze(2)
            sums.addcmul_(window, weight[tile.planes, None, :, tile.pixels])
        target.copy_(plan.unpitched(sums))
    return out


def _backward(plan: _Plan, grad: Tensor, x: Tensor | None, mask: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of x (needs mask) and of mask (needs x); what isn't given isn't computed."""
    children = plan.children(grad, plan.D)
    if mask is not None:
        weights, grad_x = plan.weights(mask), plan.extended()
    if x is not None:
        extended = plan.extended()
        plan.image(extended).copy_(x.reshape(plan.B, plan.D, plan.H, plan.W))
        grad_weights = plan.sums.new_zeros(len(plan.taps), plan.B, plan.s**2, plan.H * plan.pitch)
    for tile in plan.tiles:
        pixels = plan.pitched(children[tile.planes, tile.channels, ..., tile.rows, :])
        products = torch.empty_like(pixels)
        for index, tap in enumerate(plan.taps):
            if mask is not None:
                target, weight = plan.window(grad_x, tap, tile), weights[index, tile.planes, None, :, tile.pixels]
                for phase in range(plan.s**2):
                    target.addcmul_(pixels[:, :, phase], weight[:, :, phase])
            if x is not None:
                torch.mul(pixels, plan.window(extended, tap, tile).unsqueeze(2), out=products)
                grad_weights[index, tile.planes, :, tile.pixels].add_(products.sum(1))
    return (
        None if mask is None else plan.image(grad_x).to(grad.dtype).reshape(plan.N, plan.C, plan.H, plan.W),
        None if x is None else _mask_of(plan, grad_weights, grad),
    )


def _mask_of(plan: _Plan, weights: Tensor, like: Tensor) -> Tensor:
    """The inverse of `weights`: (N, g*k*k, s*H, s*W), zero where a tap leaves the image."""
    g = plan.C // plan.D
    mask = like.new_zeros(plan.N, g * plan.k**2, plan.s * plan.H, plan.s * plan.W)
    phases = plan.children(mask, plan.k, plan.k)
    for tap, weight in zip(plan.taps, plan.unpitched(weights), strict=True):
        phases[:, tap.iy, tap.ix, ..., tap.rows, tap.columns] = weight[..., tap.rows, tap.columns]
    return mask
