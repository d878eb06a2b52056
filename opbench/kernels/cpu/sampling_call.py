"""How the sampling kernels are launched: blocks, tasks and scratch memory for one problem.

Two runs agree bit for bit, whatever the number of threads: a thread that adds up x's gradient owns some channels of a
whole image. Beyond the results each thread takes a tile (30 KiB in float32; more where a pixel has over 320 samples a
group), and for x's gradient in bfloat16 and float16 a float32 copy of at most 16 channels of one image.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from opbench.kernels.cpu import layout
from opbench.kernels.cpu.jit import kernel
from opbench.kernels.cpu.launch import launch, tensor_arguments
from opbench.kernels.cpu.processor import target

KERNELS = "opbench.kernels.cpu.sampling_kernels"

# Samples in a block, at most where one pixel's fit: what is worked out for them stays in the first-level cache.
SAMPLES = 320
# Rows of x below a window that are fetched before they are needed: three standard deviations of offsets of 2 px.
AHEAD = 6
# Bytes of x that the blocks of a row have in common with those of the next rows: they should stay in a core's cache.
SHARED_BYTES = 1 << 20
# Tasks for each thread, so that one that is held up leaves its share to the others.
TASKS = 4


def dense(t: Tensor) -> Tensor:
    """The tensor, copied where its last axis isn't dense."""
    if t.stride(3) == 1 or t.shape[3] == 1:
        return t
    if t.stride(2) == 1:  # channels first
        return layout.pixels(t.permute(0, 3, 1, 2)).squeeze(1)
    return t.contiguous()


@dataclass(frozen=True)
class Window:
    """The points of DCNv3's window, which offsets displace."""

    size: int
    stride: int
    pad: int
    dilation: int
    scale: float
    remove_center: bool

    @property
    def half(self) -> int:
        """Pixels from the window's first row to its centre."""
        return self.dilation * (self.size - 1) // 2


@lru_cache(maxsize=64)
def _grid(window: Window, pixels: int, batch: int, samples: int, wide: bool) -> Tensor:
    """For each sample of a block: where its point lies in the window, from its centre (x, then y), and then, as int32,
    how far its window is from the block's first.
    """
    half, size = window.half, window.size
    points = [
        (i * window.dilation - half, j * window.dilation - half)
        for i in range(size)
        for j in range(size)
        if not (window.remove_center and i == j == size // 2)
    ]
    taps = torch.zeros(2, samples, dtype=torch.float64 if wide else torch.float32)
    taps[:, : pixels * batch * len(points)] = torch.tensor(points * (pixels * batch), dtype=taps.dtype).T
    steps = torch.zeros(samples, dtype=torch.int32)
    steps[: pixels * batch * len(points)] = (torch.arange(pixels) * window.stride).repeat_interleave(
        batch * len(points)
    )
    return torch.cat([taps.view(torch.uint8).flatten(), steps.view(torch.uint8)])


def _bits(number: float) -> int:
    bits: int = struct.unpack("q", struct.pack("d", number))[0]
    return bits


class SamplingCall:
    """One problem: what its kernels share.

    Axes: x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P) or None, out (N, Ho, Wo, C). `offset` holds
    displacements from the points of a `window`, or else positions outside which there is `padding`. `packed`: offset is
    (N, Ho, Wo, M) with M >= G*P*3 and holds the mask, too, in each group its P pairs and then its P weights; so does
    the gradient of either. `logits`: the mask is the softmax over the points of a window of what stands in its place.
    """

    def __init__(
        self,
        x: Tensor,
        offset: Tensor,
        mask: Tensor | None,
        *,
        groups: int,
        points: int,
        window: Window | None = None,
        padding: str = "zeros",
        first: str = "x",
        packed: bool = False,
        logits: bool = False,
    ) -> None:
        self.x, self.offset = dense(x), dense(offset)
        self.mask = self.offset if packed else None if mask is None else dense(mask)
        self.packed = packed
        self.groups, self.points, self.window = groups, points, window
        weights = "none" if self.mask is None else "logits" if logits else "mask"
        self.described = ("window" if window else padding, first, weights, points == 1)
        self.n, self.h, self.w, self.c = x.shape
        self.out_h, self.out_w = offset.shape[1:3]
        self.channels = self.c // groups
        self.number_bytes = max(4, x.element_size())
        self.work = self.n * self.out_h * self.out_w * self.c * points * 4

    @property
    def empty(self) -> bool:
        """Whether there is nothing to sum."""
        return self.work == 0

    def forward(self, out: Tensor) -> None:
        """Fills the output."""
        self._by_rows("forward", self._vectors(self.channels, 8), {"out": out})

    def grad_offset_mask(self, grad: Tensor, grad_offset: Tensor | None, grad_mask: Tensor | None) -> None:
        """Fills the gradients of offset and mask that are given."""
        given = {"grad_offset": grad_offset, "grad_mask": grad_mask}
        wanted = [t is not None for t in given.values()]
        tensors = {"out": dense(grad), **{name: t for name, t in given.items() if t is not None}}
        self._by_rows("grad_offset_mask", (*self._vectors(self.channels, 8), *wanted), tensors)

    def grad_x(self, grad: Tensor, grad_x: Tensor) -> None:
        """Fills x's gradient.

        Shares channels out to tasks: as many groups as leave four tasks a thread, or else parts of a group.
        """
        wanted = 4 * torch.get_num_threads()
        lanes, _ = self._vectors(self.channels, 1)
        narrow = grad_x.element_size() < 4
        pixels, batch = self._block(1 if narrow else max(1, min(self.n * self.groups // wanted, self.groups)))
        parts = 1
        if batch == 1:
            most = self.channels // lanes
            need = most if narrow else -(-wanted // (self.n * self.groups))
            parts = next(v for v in range(min(most, max(1, need)), 0, -1) if most % v == 0)
        batches = self.groups // batch
        wide = batch * self.channels // parts
        self._launch(
            "grad_x", self._vectors(self.channels // parts, 8), {"x": grad_x, "out": dense(grad)},
            pixels=pixels, batch=batch, spans=batches, parts=parts, tasks=self.n * batches * parts,
            row=wide, more=self.h * self.w * wide if narrow else 0,
        )  # fmt: skip

    def _vectors(self, channels: int, most: int) -> tuple[int, int]:
        """The widest vector, and most vectors at once, that divide so many channels."""
        lanes = next(n for n in (16, 8, 4, 2, 1) if n <= target().lanes(self.x.dtype) and channels % n == 0)
        return lanes, next(v for v in range(most, 0, -1) if channels // lanes % v == 0)

    def _block(self, groups: int) -> tuple[int, int]:
        """Pixels and groups of a block: at most `groups`, in equal batches."""
        most = min(groups, max(1, SAMPLES // self.points))
        batch = next(b for b in range(most, 0, -1) if self.groups % b == 0)
        return max(1, min(SAMPLES // (self.points * batch), self.out_w)), batch

    def _by_rows(self, name: str, vectors: tuple[Any, ...], tensors: dict[str, Tensor]) -> None:
        """Launches a kernel whose tasks are neighbouring output pixels."""
        pixels, batch = self._block(self.groups)
        across, down = self.w / self.out_w, 1 + 2 * AHEAD  # samples are taken to be spread evenly
        if self.window:
            across, down = self.window.stride, down + 2 * self.window.half
        pixel_bytes = down * across * batch * self.channels * self.x.element_size()
        columns = min(max(1, int(SHARED_BYTES / (pixel_bytes * pixels))), -(-self.out_w // pixels))
        spans = -(-self.out_w // (pixels * columns))
        bands = self.n * (self.groups // batch) * spans
        rows = min(max(1, bands * self.out_h // (TASKS * torch.get_num_threads())), self.out_h)
        self._launch(
            name, vectors, tensors, pixels=pixels, batch=batch, spans=spans, rows=rows, columns=columns,
            tasks=bands * -(-self.out_h // rows), row=self.c,
        )  # fmt: skip

    def _launch(
        self, name: str, vectors: tuple[Any, ...], tensors: dict[str, Tensor],
        *, pixels: int, batch: int, spans: int, tasks: int, row: int,
        rows: int = 1, columns: int = 1, parts: int = 1, more: int = 0,
    ) -> None:  # fmt: skip
        """Scratch is one `row` of channels, the tile of a block's samples, and `more` numbers."""
        lanes = target().lanes(self.x.dtype)
        samples = -(-pixels * batch * self.points // lanes) * lanes
        stride = origin = ahead = scale = grid = 0
        if self.window:
            stride, scale = self.window.stride, _bits(self.window.scale)
            origin, ahead = self.window.half - self.window.pad, self.window.half + AHEAD
            table = _grid(self.window, pixels, batch, samples, self.x.dtype == torch.float64)
            grid = table.data_ptr()
        given = {"x": self.x, "offset": self.offset, "mask": self.x if self.mask is None else self.mask, **tensors}
        names = ["x", "offset", "mask", "out"] + ["grad_offset", "grad_mask"] * (name == "grad_offset_mask")
        launch(
            kernel(KERNELS, name, str(self.x.dtype).removeprefix("torch."), *self.described, *vectors),
            [
                self.groups, self.channels, self.points, self.h, self.w, self.out_h, self.out_w, stride, origin,
                pixels, rows, columns, batch, samples, spans, parts, ahead, scale, grid,
                *(word for name in names for word in self._arguments(name, given.get(name, self.offset))),
            ],
            tasks=tasks,
            scratch_bytes=(row + 16 + more) * self.number_bytes + samples * (6 * 8 + 11 * self.number_bytes),
            work=self.work,
        )  # fmt: skip

    def _arguments(self, name: str, t: Tensor) -> list[int]:
        """Where a tensor begins, and its strides in bytes, of which the last may be that of a group."""
        if name in ("x", "out"):
            return tensor_arguments(t)
        size, numbers = t.element_size(), self.points * (2 if "offset" in name else 1)
        skipped = 2 * self.points if self.packed and "mask" in name else 0
        step = 3 * self.points if self.packed else numbers
        return [t.data_ptr() + skipped * size, *(stride * size for stride in t.stride()[:3]), step * size]
