"""The pieces that the sampling kernels are made of.

Every kernel goes over blocks: some groups of some neighbouring output pixels. First it works out the block's samples,
many to a vector: where their corners lie in memory, and what these weigh (`sampling_places`). Then it goes over the
samples with channels in the lanes. A corner that doesn't count has weight 0 and lies in a row kept for the purpose, so
that nothing outside the image and nothing of a pixel that isn't sampled is touched. Where all corners count, three
follow from the first.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from opbench.kernels.cpu.element import Element, Tensor
from opbench.kernels.cpu.ir import I32, I64, Value
from opbench.kernels.cpu.sampling_problem import Image, Problem, SampleBlock, Tile

CACHE_LINE = 64  # bytes


def gathered(p: Problem, block: SampleBlock, tensor: Tensor, to: Value, width: int, e: Element) -> Value:
    """A block's offsets (width 2) or mask (width 1), side by side and as computed with, whole vectors of them.

    Where they lie like that already, and enough follows them in the row to read whole vectors, they stay there; else
    they are copied.
    """
    k = p.kernel
    count = p.batch * p.points * width
    there = tensor.at(block.n, block.y, block.x, block.group)
    if e.bytes != e.compute_bytes:
        copy_in(p, block, tensor, to, width, e)
        return to
    dense = adjoining(p, tensor, width, e) & tensor.strides[2].equals(count * e.bytes)
    stays = dense & ((p.out_width - block.x - block.pixels) * count >= e.lanes * width)
    k.choose(stays, lambda yes: None if yes else copy_in(p, block, tensor, to, width, e))
    return k.select(stays, there, to)


def copy_in(p: Problem, block: SampleBlock, tensor: Tensor, to: Value, width: int, e: Element) -> None:
    """A block's offsets or mask, from wherever they lie, side by side and as computed with."""
    k = p.kernel

    def piece(source: Value, number: Value, count: Value) -> None:
        place = to + number * e.compute_bytes

        def copy(first: Value, on: Value | None) -> None:
            k.store(e.load(source + first * e.bytes, e.lanes, on), place + first * e.compute_bytes)

        over_vectors(p, count, copy)

    over_pieces(p, block, tensor, width, e, piece)


def copy_out(p: Problem, block: SampleBlock, source: Value, tensor: Tensor, width: int, e: Element) -> None:
    """The inverse of `copy_in`."""
    k = p.kernel

    def piece(place: Value, number: Value, count: Value) -> None:
        start = source + number * e.compute_bytes

        def copy(first: Value, on: Value | None) -> None:
            e.store(k.load(start + first * e.compute_bytes, e.vector(e.lanes)), place + first * e.bytes, on)

        over_vectors(p, count, copy)

    over_pieces(p, block, tensor, width, e, piece)


def adjoining(p: Problem, tensor: Tensor, width: int, e: Element) -> Value:
    """Whether the groups of a pixel lie side by side."""
    return tensor.strides[3].equals(p.points * (width * e.bytes))


def over_pieces(
    p: Problem, block: SampleBlock, tensor: Tensor, width: int, e: Element, emit: Callable[[Value, Value, Value], None]
) -> None:
    """`emit(place, number of its first, numbers in it)` for the dense pieces that a block's offsets or mask lie in.

    One where its pixels adjoin, else one a pixel, or one a group of a pixel where its groups don't adjoin.
    """
    k = p.kernel
    each = p.points * width
    count = p.batch * each
    side_by_side = adjoining(p, tensor, width, e)
    whole = side_by_side & tensor.strides[2].equals(count * e.bytes)
    size = k.select(whole, count * block.pixels, k.select(side_by_side, count, each))
    one = k.constant(1)
    with (
        k.loop(0, k.select(whole, one, block.pixels)) as pixel,
        k.loop(0, k.select(side_by_side, one, p.batch)) as group,
    ):
        place = tensor.at(block.n, block.y, block.x + pixel, block.group + group)
        emit(place, pixel * count + group * each, size)


def over_vectors(p: Problem, count: Value, emit: Callable[[Value, Value | None], None]) -> None:
    """`emit(first, lanes that count or None)` for vectors of `count` numbers: None where all do."""
    k, lanes = p.kernel, p.element.lanes
    whole = count - count % lanes
    with k.loop(0, whole, lanes) as first:
        emit(first, None)
    with k.when(whole < count):
        emit(whole, k.iota(lanes, I32) < k.splat(k.convert(count - whole, I32), lanes))


def over_samples(
    p: Problem, image: Image, tile: Tile, first: Value, emit: Callable[[Value, list[Value]], None]
) -> None:
    """`emit(sample, places of its corners)` for the samples of one pixel and group."""
    k, lanes = p.kernel, p.element.lanes
    if p.single:  # four addresses are read sooner than it is found out whether three of them follow from the first
        emit(first, [k.pointer(k.load(tile.at("corner", first, q), I64)) for q in range(4)])
        return
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
