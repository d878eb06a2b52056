"""Bilinear sampling: forward, the gradients of offset and mask, and of x.

What is known of the samples (`places`, `first`, `weights`, `single`) is described at `Problem`. `lanes * vectors`
divides the channels of a group (of a part of a group, where x's gradient is shared out by parts).
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from opbench.kernels.cpu.ir import I64, Kernel, Value
from opbench.kernels.cpu.sampling_blocks import (
    clear,
    copy_out,
    fetch_ahead,
    image_of,
    over_blocks,
    over_groups,
    over_samples,
)
from opbench.kernels.cpu.sampling_places import locate, times
from opbench.kernels.cpu.sampling_problem import Image, Problem, SampleBlock, Tile
from opbench.kernels.cpu.sampling_softmax import softmax_gradient


def forward(
    kernel: Kernel, dtype: str, places: str, first: str, weights: str, single: bool, lanes: int, vectors: int
) -> None:
    """out from x, offset and mask."""
    k, p = kernel, Problem.read(kernel, dtype, places, first, weights, single)
    e = p.element
    # Independent sums, so that multiply-adds needn't wait for each other; those of single samples don't.
    ways = 4 if vectors < 4 and not single else 1
    nowhere = k.scratch()
    tile = Tile(p, nowhere + clear(p, nowhere, p.groups * p.channels))

    def gather(block: SampleBlock, image: Image, pixel: Value, group: Value, first: Value) -> None:
        channel = (block.group + group) * p.channels
        out = p.out.at(block.n, block.y, block.x + pixel, channel)
        with k.loop(0, p.channels * e.bytes, lanes * vectors * e.bytes) as c:
            sums = [[k.variable(e.zero(lanes)) for _ in range(vectors)] for _ in range(ways)]

            def add(sample: Value, places: list[Value]) -> None:
                for q, place in enumerate(places):
                    weight = k.splat(k.load(tile.at("number", sample, q), e.compute), lanes)
                    place = place + (channel * e.bytes + c)
                    for u, total in enumerate(sums[q % ways]):
                        total.set(k.fma(weight, e.load(place + u * lanes * e.bytes, lanes), total.get()))

            over_samples(p, image, tile, first, add)
            for u in range(vectors):
                total = sums[0][u].get()
                if ways == 4:
                    total = (total + sums[1][u].get()) + (sums[2][u].get() + sums[3][u].get())
                e.store(total, out + (c + u * lanes * e.bytes))

    def compute(block: SampleBlock) -> None:
        image = image_of(p, block.n, nowhere)
        if p.places == "window":
            fetch_ahead(p, block)
        locate(p, block, image, tile, weigh=True)
        over_groups(p, block, lambda *at: gather(block, image, *at))

    with k.tasks() as task:
        over_blocks(p, task, compute)


def grad_offset_mask(
    kernel: Kernel, dtype: str, places: str, first: str, weights: str, single: bool, lanes: int, vectors: int,
    offset: bool, mask: bool,
) -> None:  # fmt: skip
    """The gradients of offset and mask (those that are wanted), from x, offset, mask and out's gradient.

    Both follow from how much out's gradient, over a group's channels, has in common with each corner.
    """
    k, p = kernel, Problem.read(kernel, dtype, places, first, weights, single)
    e = p.element
    nowhere = k.scratch()
    tile = Tile(p, nowhere + clear(p, nowhere, p.groups * p.channels))
    at_once = min(lanes, 4)

    def compare(block: SampleBlock, image: Image, pixel: Value, group: Value, first: Value) -> None:
        """What a group has in common with each corner: the tile's row `dot` has a sample's four side by side."""
        channel = (block.group + group) * p.channels
        out = p.out.at(block.n, block.y, block.x + pixel, channel)
        with k.loop(0, p.channels * e.bytes, lanes * vectors * e.bytes) as c:
            grads = [e.load(out + (c + u * lanes * e.bytes), lanes) for u in range(vectors)]

            def add(sample: Value, places: list[Value]) -> None:
                products = []
                for place in places:
                    place = place + (channel * e.bytes + c)
                    total = e.zero(lanes)
                    for u, grad in enumerate(grads):
                        value = e.load(place + u * lanes * e.bytes, lanes)
                        total = k.fma(grad, value, total) if u else grad * value
                    products.append(total)
                for q in range(0, 4, at_once):
                    total = k.sums(products[q : q + at_once])
                    here = tile.at("dot", sample * 4 + q)
                    before = k.select(c > 0, k.load(here, total.type), e.zero(at_once))
                    k.store(before + total, here)

            over_samples(p, image, tile, first, add)

    def differentiate(block: SampleBlock, image: Image) -> None:
        """Overwrites the moves with offset's gradient, and the mask with its own; the weights of logits are kept."""
        zero = e.zero(e.lanes)
        with k.loop(0, block.samples(p), e.lanes) as first:
            d, counts = [], None
            for q, dot in enumerate(k.deinterleave([tile.vector("dot", first * 4 + m * e.lanes) for m in range(4)])):
                corner = k.load(tile.at("corner", first, q), ir.VectorType(I64, e.lanes))
                here = corner.differs(k.splat(image.nowhere, e.lanes))
                counts = here if counts is None else counts | here
                d.append(k.select(here, dot, zero))  # nothing in common, whatever the numbers multiplied were
            assert counts is not None
            right, down = tile.vector("number", first, 0), tile.vector("number", first, 1)
            upper, lower = k.fma(right, d[1] - d[0], d[0]), k.fma(right, d[3] - d[2], d[2])
            value = k.fma(down, lower - upper, upper)
            slopes = [k.fma(down, (d[3] - d[2]) - (d[1] - d[0]), d[1] - d[0]), lower - upper]
            factor = tile.vector("mask", first) if p.weights != "none" else k.constant(1.0, e.vector(e.lanes))
            if p.places == "window":
                factor = factor * k.splat(p.scale, e.lanes)
            held = p.places in ("border", "border-twice")
            free = [tile.vector("number", first, 2 + axis).differs(zero) for axis in range(2 if held else 0)]
            if p.places == "border-twice":
                often = times(p, free[0]) * times(p, free[1])
                factor, value = factor * often, value * often
            factor = k.select(counts, factor, zero)
            k.store(value, tile.at("number", first, 2) if p.weights == "logits" else tile.at("mask", first))
            slopes = [factor * slope for slope in slopes]
            if held:  # what is held at the border doesn't move
                slopes = [k.select(moves, slope, zero) for moves, slope in zip(free, slopes, strict=True)]
            for m, vector in enumerate(k.interleave(slopes if p.first == "x" else slopes[::-1])):
                k.store(vector, tile.at("move", first * 2 + m * e.lanes))

    def compute(block: SampleBlock) -> None:
        image = image_of(p, block.n, nowhere)
        if p.places == "window":
            fetch_ahead(p, block)
        locate(p, block, image, tile, weigh=False)
        over_groups(p, block, lambda *at: compare(block, image, *at))
        differentiate(block, image)
        if offset:
            copy_out(p, block, tile.at("move", k.constant(0)), p.grad_offset, 2, p.located)
        if mask:
            found = softmax_gradient(p, block, tile) if p.weights == "logits" else tile.at("mask", k.constant(0))
            copy_out(p, block, found, p.grad_mask, 1, e)

    with k.tasks() as task:
        over_blocks(p, task, compute)


def grad_x(
    kernel: Kernel, dtype: str, places: str, first: str, weights: str, single: bool, lanes: int, vectors: int
) -> None:
    """x's gradient from offset, mask and out's gradient.

    Samples may lie anywhere, so a task owns some channels of a whole image: `batch` groups, or one of `parts` equal
    parts of a group. It adds up in the order of the output's pixels. Narrow dtypes are added up in a float32 copy of
    the task's channels.
    """
    k, p = kernel, Problem.read(kernel, dtype, places, first, weights, single)
    e = p.element
    narrow = e.bytes != e.compute_bytes
    wide = p.batch * p.channels // p.parts  # channels of a task
    nowhere = k.scratch()
    tile = Tile(p, nowhere + clear(p, nowhere, wide))

    def scatter(
        block: SampleBlock, image: Image, part: Value, size: Value, pixel: Value, group: Value, first: Value
    ) -> None:
        grad = p.out.at(block.n, block.y, block.x + pixel, (block.group + group) * p.channels + part * size)
        with k.loop(0, size, lanes * vectors) as c:
            grads = [e.load(grad + (c + u * lanes) * e.bytes, lanes) for u in range(vectors)]
            channel = (group * p.channels + c) * e.compute_bytes

            def add(sample: Value, places: list[Value]) -> None:
                for q, place in enumerate(places):
                    weight = k.splat(k.load(tile.at("number", sample, q), e.compute), lanes)
                    for u, value in enumerate(grads):
                        here = place + channel + u * lanes * e.compute_bytes
                        k.store(k.fma(weight, value, k.load(here, e.vector(lanes))), here)

            over_samples(p, image, tile, first, add)

    def over_image(target: Value, size: Value, emit: Callable[[Value, Value], None]) -> None:
        """`emit(place, number)` for the vectors of a task's channels, in order of their places."""
        with k.loop(0, p.height) as y, k.loop(0, p.width) as x, k.loop(0, p.batch * size, lanes) as c:
            place = target + p.x.strides[1] * y + p.x.strides[2] * x + c * e.bytes
            emit(place, (y * p.width + x) * wide + c)

    with k.tasks() as task:
        part = task % p.parts
        rest = task // p.parts
        group = rest % p.spans * p.batch
        n = rest // p.spans
        size = p.channels // p.parts
        target = p.x.at(n, 0, 0, group * p.channels + part * size)
        if narrow:
            clear(p, tile.end, p.height * p.width * wide)
            pixel_bytes = wide * e.compute_bytes
            image = Image(k.address(tile.end), pixel_bytes * p.width, pixel_bytes, k.address(nowhere))
        else:
            image = Image(k.address(target), p.x.strides[1], p.x.strides[2], k.address(nowhere))
            over_image(target, size, lambda place, _: e.store(e.zero(lanes), place))
        with k.loop(0, p.out_height) as y, k.loop(0, p.out_width, p.pixels) as x:
            block = SampleBlock(n, y, x, k.minimum(p.pixels, p.out_width - x), group)
            locate(p, block, image, tile, weigh=True)

            def one(pixel: Value, group: Value, first: Value, block: SampleBlock = block) -> None:
                scatter(block, image, part, size, pixel, group, first)

            over_groups(p, block, one)
        if narrow:
            over_image(
                target,
                size,
                lambda place, i: e.store(k.load(tile.end + i * e.compute_bytes, e.vector(lanes)), place),
            )
