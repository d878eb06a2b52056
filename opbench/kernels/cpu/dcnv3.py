"""DCNv3's core on the CPU: `dcnv3_cpu`, its operations in torch's dispatcher, and how their kernels are launched.

Axes: x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P), out (N, Ho, Wo, C). float64, float32, and
bfloat16 and float16 with locations, weights and sums in float32. Inputs are read in place where their last axis is
dense, and copied first where it isn't; results are contiguous.

A sample that isn't strictly inside (-1, W) x (-1, H), or isn't a number, contributes nothing and gets no gradient;
nothing outside x is read. Two runs agree bit for bit, whatever the number of threads: a thread that adds up x's
gradient owns some channels of a whole image. Beyond the results each thread takes a tile (30 KiB in float32; more
where a kernel has over 320 points), and for x's gradient in bfloat16 and float16 a float32 copy of at most 16 channels
of one image.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from opbench.kernels.cpu.jit import kernel
from opbench.kernels.cpu.launch import launch, tensor_arguments
from opbench.kernels.cpu.processor import target
from opbench.kernels.dcnv3_shapes import check, gradients
from opbench.kernels.operation import define, differentiate, refuse_forward_mode

KERNELS = "opbench.kernels.cpu.dcnv3_kernels"

# Samples in a block, at most where one pixel's fit: what is worked out for them stays in the first-level cache.
SAMPLES = 320
# Rows of x below a window that are fetched before they are needed: three standard deviations of offsets of 2 px.
AHEAD = 6
# Bytes of x that the blocks of a row have in common with those of the next rows: they should stay in a core's cache.
SHARED_BYTES = 1 << 20
# Tasks for each thread, so that one that is held up leaves its share to the others.
TASKS = 4


def dcnv3_cpu(
    x: Tensor,
    offset: Tensor,
    mask: Tensor,
    *,
    kernel_size: int,
    stride: int = 1,
    pad: int,
    dilation: int = 1,
    group: int,
    offset_scale: float = 1.0,
    remove_center: bool = False,
) -> Tensor:
    """x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P) -> (N, Ho, Wo, C)."""
    refuse_forward_mode("dcnv3_cpu", x, offset, mask)
    out: Tensor = torch.ops.opbench.dcnv3_cpu(
        x, offset, mask, kernel_size, stride, pad, dilation, group, offset_scale, remove_center
    )
    return out


# --- Launches ---------------------------------------------------------------------------------------------------


def _dense(t: Tensor) -> Tensor:
    return t if t.stride(3) == 1 or t.shape[3] == 1 else t.contiguous()


@lru_cache(maxsize=64)
def _grid(
    size: int, dilation: int, remove_center: bool, stride: int, pixels: int, batch: int, samples: int, wide: bool
) -> Tensor:
    """For each sample of a block: where its point lies in the window, from its centre (x, then y), and then, as int32,
    how far its window is from the block's first.
    """
    half = dilation * (size - 1) // 2
    points = [
        (i * dilation - half, j * dilation - half)
        for i in range(size)
        for j in range(size)
        if not (remove_center and i == j == size // 2)
    ]
    taps = torch.zeros(2, samples, dtype=torch.float64 if wide else torch.float32)
    taps[:, : pixels * batch * len(points)] = torch.tensor(points * (pixels * batch), dtype=taps.dtype).T
    steps = torch.zeros(samples, dtype=torch.int32)
    steps[: pixels * batch * len(points)] = (torch.arange(pixels) * stride).repeat_interleave(batch * len(points))
    return torch.cat([taps.view(torch.uint8).flatten(), steps.view(torch.uint8)])


def _bits(number: float) -> int:
    bits: int = struct.unpack("q", struct.pack("d", number))[0]
    return bits


class _Call:
    """One problem: what its kernels share."""

    def __init__(self, x: Tensor, offset: Tensor, mask: Tensor, parameters: tuple[Any, ...]) -> None:
        self.points, self.out_h, self.out_w = check(x, offset, mask, *parameters)
        self.x, self.offset, self.mask = _dense(x), _dense(offset), _dense(mask)
        self.size, self.stride, self.pad, self.dilation, self.groups, self.scale, self.remove_center = parameters
        self.n, self.h, self.w, self.c = x.shape
        self.channels = self.c // self.groups
        self.number_bytes = max(4, x.element_size())
        self.work = self.n * self.out_h * self.out_w * self.c * self.points * 4

    def vectors(self, channels: int, most: int) -> tuple[int, int]:
        """The widest vector, and most vectors at once, that divide so many channels."""
        lanes = next(n for n in (16, 8, 4, 2, 1) if n <= target().lanes(self.x.dtype) and channels % n == 0)
        return lanes, next(v for v in range(most, 0, -1) if channels // lanes % v == 0)

    def launch(
        self, name: str, vectors: tuple[Any, ...], tensors: dict[str, Tensor],
        *, pixels: int, batch: int, spans: int, tasks: int, row: int,
        rows: int = 1, columns: int = 1, parts: int = 1, more: int = 0,
    ) -> None:  # fmt: skip
        """Scratch is one `row` of channels, the tile of a block's samples, and `more` numbers."""
        lanes = target().lanes(self.x.dtype)
        samples = -(-pixels * batch * self.points // lanes) * lanes
        wide = self.x.dtype == torch.float64
        grid = _grid(self.size, self.dilation, self.remove_center, self.stride, pixels, batch, samples, wide)
        half = self.dilation * (self.size - 1) // 2
        given = {"x": self.x, "offset": self.offset, "mask": self.mask, **tensors}
        names = ["x", "offset", "mask", "out"] + ["grad_offset", "grad_mask"] * (name == "grad_offset_mask")
        launch(
            kernel(KERNELS, name, str(self.x.dtype).removeprefix("torch."), *vectors),
            [
                self.groups, self.channels, self.points, self.h, self.w, self.out_h, self.out_w, self.stride,
                half - self.pad, pixels, rows, columns, batch, samples, spans, parts, half + AHEAD,
                _bits(self.scale), grid.data_ptr(), *tensor_arguments(*(given.get(name, self.x) for name in names)),
            ],
            tasks=tasks,
            scratch_bytes=(row + 16 + more) * self.number_bytes + samples * (6 * 8 + 11 * self.number_bytes),
            work=self.work,
        )  # fmt: skip

    def block(self, groups: int) -> tuple[int, int]:
        """Pixels and groups of a block: at most `groups`, in equal batches."""
        most = min(groups, max(1, SAMPLES // self.points))
        batch = next(b for b in range(most, 0, -1) if self.groups % b == 0)
        return max(1, min(SAMPLES // (self.points * batch), self.out_w)), batch

    def by_rows(self, name: str, vectors: tuple[Any, ...], tensors: dict[str, Tensor]) -> None:
        """Launches a kernel whose tasks are neighbouring output pixels."""
        pixels, batch = self.block(self.groups)
        window = self.dilation * (self.size - 1) + 1 + 2 * AHEAD
        pixel_bytes = window * self.stride * batch * self.channels * self.x.element_size()
        columns = min(max(1, SHARED_BYTES // (pixel_bytes * pixels)), -(-self.out_w // pixels))
        spans = -(-self.out_w // (pixels * columns))
        across = self.n * (self.groups // batch) * spans
        rows = min(max(1, across * self.out_h // (TASKS * torch.get_num_threads())), self.out_h)
        tasks = across * -(-self.out_h // rows)
        self.launch(
            name, vectors, tensors,
            pixels=pixels, batch=batch, spans=spans, rows=rows, columns=columns, tasks=tasks, row=self.c,
        )  # fmt: skip

    @property
    def empty(self) -> bool:
        """Whether there is nothing to sum."""
        return self.work == 0


def _forward(x: Tensor, offset: Tensor, mask: Tensor, *parameters: Any) -> Tensor:
    call = _Call(x, offset, mask, parameters)
    out = x.new_empty((call.n, call.out_h, call.out_w, call.c))
    if call.empty:
        return out.zero_()
    call.by_rows("forward", call.vectors(call.channels, 8), {"out": out})
    return out


def _backward(grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    *parameters, wanted = rest
    call = _Call(x, offset, mask, tuple(parameters))
    grad_x, grad_offset, grad_mask = gradients(grad, x, offset, mask, wanted)
    if call.empty:
        return grad_x.zero_(), grad_offset.zero_(), grad_mask.zero_()
    grad = _dense(grad)
    if wanted[1] or wanted[2]:
        tensors = {"out": grad, "grad_offset": grad_offset, "grad_mask": grad_mask}
        tensors = {name: t for name, t in tensors.items() if t.dim() == 4}
        call.by_rows("grad_offset_mask", (*call.vectors(call.channels, 8), *wanted[1:]), tensors)
    if wanted[0]:
        _grad_x(call, grad, grad_x)
    return grad_x, grad_offset, grad_mask


def _grad_x(call: _Call, grad: Tensor, grad_x: Tensor) -> None:
    """Shares channels out to tasks: as many groups as leave four tasks a thread, or else parts of a group."""
    wanted = 4 * torch.get_num_threads()
    lanes, _ = call.vectors(call.channels, 1)
    narrow = grad_x.element_size() < 4
    pixels, batch = call.block(1 if narrow else max(1, min(call.n * call.groups // wanted, call.groups)))
    parts = 1
    if batch == 1:
        most = call.channels // lanes
        need = most if narrow else -(-wanted // (call.n * call.groups))
        parts = next(v for v in range(min(most, max(1, need)), 0, -1) if most % v == 0)
    batches = call.groups // batch
    wide = batch * call.channels // parts
    call.launch(
        "grad_x", call.vectors(call.channels // parts, 8), {"x": grad_x, "out": grad},
        pixels=pixels, batch=batch, spans=batches, parts=parts, tasks=call.n * batches * parts,
        row=wide, more=call.h * call.w * wide if narrow else 0,
    )  # fmt: skip


# --- Operations -------------------------------------------------------------------------------------------------


def _out(x: Tensor, offset: Tensor, mask: Tensor, *parameters: Any) -> Tensor:
    _, out_h, out_w = check(x, offset, mask, *parameters)
    return x.new_empty((x.shape[0], out_h, out_w, x.shape[3]))


def _shapes(grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    *parameters, wanted = rest
    check(x, offset, mask, *parameters)
    return gradients(grad, x, offset, mask, wanted)


_INPUTS = (
    "Tensor x, Tensor offset, Tensor mask, int kernel_size, int stride, int pad, int dilation, int group, "
    "float offset_scale, bool remove_center"
)
define(f"dcnv3_cpu({_INPUTS}) -> Tensor", _forward, _out)
define(f"dcnv3_cpu_backward(Tensor grad, {_INPUTS}, bool[3] wanted) -> (Tensor, Tensor, Tensor)", _backward, _shapes)
differentiate("dcnv3_cpu", tensors=3)
