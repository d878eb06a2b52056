"""What DCNv3's kernels share: the problem they are given, and how they find a sample's corners.

Axes: x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P), out (N, Ho, Wo, C); P sampling points. One
point of one group at one output pixel is a *sample*; it reads four *corners*.

Every kernel goes over blocks: some groups of some neighbouring output pixels. First it works out the block's samples,
many to a vector: where their corners lie in memory, and what these weigh. Then it goes over the samples with channels
in the lanes. A corner that doesn't count has weight 0 and lies in a row kept for the purpose, so that nothing outside
the image and nothing of a pixel that isn't sampled is touched. Where all corners count, three follow from the first.

Locations are never formed: an output pixel's window begins at a whole pixel, so only the displacement within the
window is rounded, the same at every place of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from opbench.kernels.cpu.element import Element, Tensor, tensor_argument
from opbench.kernels.cpu.ir import F64, I32, I64, PTR, Kernel, Value
from opbench.kernels.cpu.launch import FIRST

# The launcher's arguments, in order. `channels` is per group. The window of output pixel (0, 0) is centred on pixel
# (origin, origin) of x. A block is `pixels` of a row times `batch` groups; its `samples` are rounded up to whole
# vectors. A task is `rows` times `columns` blocks, of which `spans` cover a row; or, for x's gradient, one of
# `spans` batches of groups of an image, or one of `parts` parts of a group. `ahead` rows below the centre of a window
# are fetched before they are needed.
SIZES = (
    "groups", "channels", "points", "height", "width", "out_height", "out_width", "stride", "origin",
    "pixels", "rows", "columns", "batch", "samples", "spans", "parts", "ahead",
)  # fmt: skip
TENSORS = ("x", "offset", "mask", "out", "grad_offset", "grad_mask")

# Rows of the tile that a block's samples are worked out in. `corner` holds addresses, `partial` how many vectors before
# this one have a corner that doesn't count (and one more vector); the others hold numbers.
ROWS = {"corner": 4, "partial": 2, "move": 2, "mask": 1, "number": 4, "dot": 4}
WIDE_ROWS = ("corner", "partial")

CACHE_LINE = 64  # bytes


@dataclass(frozen=True)
class Problem:
    """What every kernel is given."""

    kernel: Kernel
    element: Element
    groups: Value
    channels: Value
    points: Value
    height: Value
    width: Value
    out_height: Value
    out_width: Value
    stride: Value
    origin: Value
    pixels: Value
    rows: Value
    columns: Value
    batch: Value
    samples: Value
    spans: Value
    parts: Value
    ahead: Value
    scale: Value
    grid: Value
    x: Tensor
    offset: Tensor
    mask: Tensor
    out: Tensor
    grad_offset: Tensor
    grad_mask: Tensor

    @classmethod
    def read(cls, kernel: Kernel, dtype: str) -> Problem:
        """From the arguments the kernel is called with."""
        element = Element(kernel, dtype)
        given: dict[str, Any] = {name: kernel.argument(FIRST + i) for i, name in enumerate(SIZES)}
        after = FIRST + len(SIZES)
        scale = kernel.argument(after, F64)
        if element.compute != F64:
            scale = kernel.convert(scale, element.compute)
        for i, name in enumerate(TENSORS):
            given[name] = tensor_argument(kernel, after + 2 + 5 * i)
        return cls(kernel, element, scale=scale, grid=kernel.argument(after + 1, PTR), **given)


@dataclass(frozen=True)
class Image:
    """Where corners are found: the first pixel's address, strides of rows and pixels, and the row for the others."""

    start: Value
    row: Value
    pixel: Value
    nowhere: Value

    def corners(self) -> list[Value]:
        """The corners of a sample, in bytes from the first."""
        return [self.start.kernel.constant(0), self.pixel, self.row, self.row + self.pixel]


@dataclass(frozen=True)
class SampleBlock:
    """Neighbouring output pixels in a row, and groups."""

    n: Value
    y: Value
    x: Value
    pixels: Value
    group: Value

    def samples(self, p: Problem) -> Value:
        """How many it has."""
        return self.pixels * p.batch * p.points


class Tile:
    """A block's samples in this thread's scratch memory, row by row, and what lies behind them."""

    def __init__(self, p: Problem, start: Value) -> None:
        self.p = p
        self.places = {}
        for name, rows in ROWS.items():
            self.places[name] = start
            start = start + p.samples * (rows * self._bytes(name))
        self.end = start

    def _bytes(self, name: str) -> int:
        return 8 if name in WIDE_ROWS else self.p.element.compute_bytes

    def at(self, name: str, sample: Value, row: int = 0) -> Value:
        """Where a sample lies in one of the rows of a name."""
        return self.places[name] + (self.p.samples * row + sample) * self._bytes(name)

    def vector(self, name: str, sample: Value, row: int = 0) -> Value:
        """A vector of numbers."""
        return self.p.kernel.load(self.at(name, sample, row), self.p.element.vector(self.p.element.lanes))


# --- Pieces -----------------------------------------------------------------------------------------------------


def gathered(p: Problem, block: SampleBlock, tensor: Tensor, to: Value, width: int) -> Value:
    """A block's offsets (width 2) or mask (width 1), side by side and as computed with, whole vectors of them.

    Where they lie like that already, and enough follows them in the row to read whole vectors, they stay there; else
    they are copied.
    """
    k, e = p.kernel, p.element
    count = p.batch * p.points * width
    there = tensor.at(block.n, block.y, block.x, block.group * p.points * width)
    if e.bytes != e.compute_bytes:
        copy_in(p, block, tensor, to, width)
        return to
    dense = tensor.strides[2].equals(count * e.bytes)
    stays = dense & ((p.out_width - block.x - block.pixels) * count >= e.lanes * width)
    k.choose(stays, lambda yes: None if yes else copy_in(p, block, tensor, to, width))
    return k.select(stays, there, to)


def copy_in(p: Problem, block: SampleBlock, tensor: Tensor, to: Value, width: int) -> None:
    """A block's offsets or mask, from wherever they lie, side by side and as computed with."""
    k, e = p.kernel, p.element
    count = p.batch * p.points * width
    with k.loop(0, block.pixels) as pixel:
        source = tensor.at(block.n, block.y, block.x + pixel, block.group * p.points * width)
        place = to + pixel * count * e.compute_bytes

        def copy(first: Value, on: Value | None, source: Value = source, place: Value = place) -> None:
            k.store(e.load(source + first * e.bytes, e.lanes, on), place + first * e.compute_bytes)

        over_vectors(p, count, copy)


def copy_out(p: Problem, block: SampleBlock, source: Value, tensor: Tensor, width: int) -> None:
    """The inverse of `copy_in`."""
    k, e = p.kernel, p.element
    count = p.batch * p.points * width
    with k.loop(0, block.pixels) as pixel:
        place = tensor.at(block.n, block.y, block.x + pixel, block.group * p.points * width)
        start = source + pixel * count * e.compute_bytes

        def copy(first: Value, on: Value | None, start: Value = start, place: Value = place) -> None:
            e.store(k.load(start + first * e.compute_bytes, e.vector(e.lanes)), place + first * e.bytes, on)

        over_vectors(p, count, copy)


def over_vectors(p: Problem, count: Value, emit: Callable[[Value, Value | None], None]) -> None:
    """`emit(first, lanes that count or None)` for vectors of `count` numbers: None where all do."""
    k, lanes = p.kernel, p.element.lanes
    whole = count - count % lanes
    with k.loop(0, whole, lanes) as first:
        emit(first, None)
    with k.when(whole < count):
        emit(whole, k.iota(lanes, I32) < k.splat(k.convert(count - whole, I32), lanes))


def locate(p: Problem, block: SampleBlock, image: Image, tile: Tile, *, weigh: bool) -> None:
    """Works out a block's samples: where corners lie, and what they weigh with the mask (or else the fractions)."""
    k, e, lanes = p.kernel, p.element, p.element.lanes
    offsets = gathered(p, block, p.offset, tile.at("move", k.constant(0)), 2)
    masks = gathered(p, block, p.mask, tile.at("mask", k.constant(0)), 1)
    ints, wide = ir.VectorType(I32, lanes), ir.VectorType(I64, lanes)
    one, zero = k.constant(1.0, e.vector(lanes)), e.zero(lanes)
    steps = p.grid + p.samples * (2 * e.compute_bytes)  # how far each sample's pixel is from the block's first

    partial = k.variable(k.constant(0))
    k.store(partial.get(), tile.at("partial", k.constant(0)))
    with k.loop(0, block.samples(p), lanes) as first:
        pairs = [k.load(offsets + (first * 2 + m * lanes) * e.compute_bytes, e.vector(lanes)) for m in range(2)]
        windows = [
            k.load(steps + first * 4, ints) + k.splat(k.convert(block.x * p.stride + p.origin, I32), lanes),
            k.splat(k.convert(block.y * p.stride + p.origin, I32), lanes),
        ]
        sizes = [k.splat(k.convert(size, I32), lanes) for size in (p.width, p.height)]
        moves, inside = [], None
        for axis, (move, window, size) in enumerate(zip(k.deinterleave(pairs), windows, sizes, strict=True)):
            tap = k.load(p.grid + (p.samples * axis + first) * e.compute_bytes, e.vector(lanes))
            move = (tap + move) * k.splat(p.scale, lanes)
            low, high = (k.convert(v, e.vector(lanes)) for v in (k.constant(-1, ints) - window, size - window))
            here = (move > low) & (move < high)  # false for NaN
            inside = here if inside is None else inside & here
            moves.append(move)
        assert inside is not None

        indices, fractions, near, far = [], [], [], []
        for move, window, size in zip(moves, windows, sizes, strict=True):
            move = k.select(inside, move, zero)
            floor = k.floor(move)
            index = k.convert(floor, ints) + window
            fractions.append(move - floor)
            indices.append(k.convert(index, wide))
            near.append(inside & index.below(size))
            far.append(inside & (index + 1).below(size))
        start = k.splat(image.start, lanes)
        start = start + indices[1] * k.splat(image.row, lanes) + indices[0] * k.splat(image.pixel, lanes)
        counts = [near[1] & near[0], near[1] & far[0], far[1] & near[0], far[1] & far[0]]
        nowhere = k.splat(image.nowhere, lanes)
        for q, (away, count) in enumerate(zip(image.corners(), counts, strict=True)):
            k.store(k.select(count, start + k.splat(away, lanes), nowhere), tile.at("corner", first, q))
        partly = k.select(k.all(counts[0] & counts[3]), k.constant(0), k.constant(1))
        partial.set(partial.get() + partly)
        k.store(partial.get(), tile.at("partial", first // lanes + 1))

        right, down = fractions
        left, up = one - right, one - down
        if weigh:
            mask = k.load(masks + first * e.compute_bytes, e.vector(lanes))
            weights = [up * left, up * right, down * left, down * right]
            for q, (weight, count) in enumerate(zip(weights, counts, strict=True)):
                k.store(k.select(count, weight * mask, zero), tile.at("number", first, q))
        else:  # the mask is multiplied with later
            k.store(k.load(masks + first * e.compute_bytes, e.vector(lanes)), tile.at("mask", first))
            k.store(right, tile.at("number", first, 0))
            k.store(down, tile.at("number", first, 1))


def over_samples(
    p: Problem, image: Image, tile: Tile, first: Value, emit: Callable[[Value, list[Value]], None]
) -> None:
    """`emit(sample, places of its corners)` for the samples of one pixel and group."""
    k, lanes = p.kernel, p.element.lanes
    last = first + p.points
    before = k.load(tile.at("partial", first // lanes), I64)
    upto = k.load(tile.at("partial", (last - 1) // lanes + 1), I64)

    def samples(whole: bool) -> None:
        with k.loop(first, last) as sample:
            if whole:
                start = k.pointer(k.load(tile.at("corner", sample), I64))
                emit(sample, [start + away for away in image.corners()])
            else:
                emit(sample, [k.pointer(k.load(tile.at("corner", sample, q), I64)) for q in range(4)])

    k.choose(before.equals(upto), samples)


def over_groups(p: Problem, block: SampleBlock, emit: Callable[[Value, Value, Value], None]) -> None:
    """`emit(pixel, group, first sample)` for a block."""
    k = p.kernel
    with k.loop(0, block.pixels) as pixel, k.loop(0, p.batch) as group:
        emit(pixel, group, (pixel * p.batch + group) * p.points)


def over_blocks(p: Problem, task: Value, emit: Callable[[SampleBlock], None]) -> None:
    """`emit(block)` for the blocks of a task, row by row: what they read of x overlaps, and memory is read in order."""
    k = p.kernel
    wide = p.columns * p.pixels
    left = task % p.spans * wide
    right = k.minimum(left + wide, p.out_width)
    rest = task // p.spans
    bands = (p.out_height + p.rows - 1) // p.rows
    top, rest = rest % bands * p.rows, rest // bands
    batches = p.groups // p.batch
    with k.loop(top, k.minimum(top + p.rows, p.out_height)) as y, k.loop(left, right, p.pixels) as x:
        emit(SampleBlock(rest // batches, y, x, k.minimum(p.pixels, p.out_width - x), rest % batches * p.batch))


def fetch_ahead(p: Problem, block: SampleBlock) -> None:
    """Asks for the part of x that blocks some rows below will read.

    Samples lie anywhere in their windows, so that the processor can't see what comes next; where x isn't in a cache,
    single corners would be waited for.
    """
    k = p.kernel
    first = block.y * p.stride + (p.origin + p.ahead)
    size = p.batch * p.channels * p.element.bytes
    with k.loop(k.maximum(first, 0), k.minimum(first + p.stride, p.height)) as y:
        row = p.x.at(block.n, y, 0, block.group * p.channels)
        with (
            k.loop(block.x * p.stride, k.minimum((block.x + block.pixels) * p.stride, p.width)) as x,
            k.loop(0, size, CACHE_LINE) as part,
        ):
            k.prefetch(row + p.x.strides[2] * x + part)


def image_of(p: Problem, n: Value, nowhere: Value) -> Image:
    """Image n of x."""
    k = p.kernel
    return Image(k.address(p.x.at(n, 0, 0, 0)), p.x.strides[1], p.x.strides[2], k.address(nowhere))


def clear(p: Problem, start: Value, count: Value) -> Value:
    """Sets numbers to 0, a whole number of cache lines; their bytes."""
    k = p.kernel
    rounded = (count * p.element.compute_bytes + (CACHE_LINE - 1)) // CACHE_LINE * CACHE_LINE
    with k.loop(0, rounded, CACHE_LINE) as i:
        k.store(k.constant(0, ir.VectorType(I64, 8)), start + i)
    return rounded
