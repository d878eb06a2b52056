"""DySample's kernels: the samples, and the gradients of offsets and of x.

A task goes over a row of input pixels, a vector of them at a time. From their offsets it works out where their
children are sampled, without a grid in memory (`dysample_tiles`); then it goes over the samples with channels in the
lanes. Where the output's rows are dense, a block of samples is transposed in registers as it is written (a gradient as
it is read), so that neither is copied.
"""

from __future__ import annotations

from opbench.kernels.cpu.dysample_tiles import (
    ChildrenProblem,
    ChildrenRow,
    ChildrenTile,
    locate,
    over_output,
    over_rows,
    over_samples,
    read_gradient,
    weights_of,
)
from opbench.kernels.cpu.ir import Kernel, Value
from opbench.kernels.cpu.layout_kernels import put, transposed_from


def forward(kernel: Kernel, dtype: str, scale: int, last: bool, vectors: int, stream: bool) -> None:
    """out from image and offset; `vectors` vectors of channels at once, which divide a group's.

    `stream` bypasses the caches with whole vectors of an output too large for them.
    """
    k, p = kernel, ChildrenProblem.read(kernel, dtype, scale, last)
    lanes, size = p.lanes, p.wide.bytes
    tile = ChildrenTile(p, k.scratch())

    def sample(at: ChildrenRow, number: Value, places: list[Value]) -> None:
        weights = weights_of(p, tile, number)
        written = p.out.at(
            at.n, at.group * p.channels + number % lanes, at.y * scale + at.a, at.x * scale + number // lanes * lanes
        )
        to = tile.value(number, p.padded)
        with k.loop(0, p.padded * size, lanes * vectors * size) as c:
            for u in range(vectors):
                here = c + u * lanes * size
                total = weights[0] * p.wide.load(places[0] + here, lanes)
                for q in range(1, 4):
                    total = k.fma(weights[q], p.wide.load(places[q] + here, lanes), total)
                k.store(total, to + here)
                if not last and not stream:  # rows that are far apart: the processor doesn't see what comes next
                    k.prefetch(written + p.out.strides[1] * (c // size + u * lanes), write=True)

    def write(number: int, c: Value, places: list[Value], on: Value) -> None:
        if last:
            held = p.wide.load(tile.value(number, p.padded) + c * size, lanes)
            p.element.store(held, places[0], on)
            return
        rows = [tile.value(number + t, p.padded) + c * size for t in range(lanes)]
        found = transposed_from(k, p.wide, rows, c, p.channels, None, whole=True)

        def lay(whole: bool) -> None:
            put(k, p.element, found, places, c, p.channels, on, whole=whole, stream=stream and whole)

        k.choose(k.all(on) & (c + lanes <= p.channels), lay)

    with k.tasks() as task:
        y, rest = task % p.height, task // p.height
        n, group = rest // p.groups, rest % p.groups
        image = p.group_of(n, group)

        def row(at: ChildrenRow) -> None:
            locate(p, at, image, tile, weigh=True)
            over_samples(p, at, tile, lambda number, places: sample(at, number, places))
            over_output(p, at, k.constant(0), p.padded, write)

        over_rows(p, n, group, y, row)


def grad_offset(kernel: Kernel, dtype: str, scale: int, last: bool) -> None:
    """The gradient of offset, from image, offset and out's gradient: by what that has in common with each corner."""
    k, p = kernel, ChildrenProblem.read(kernel, dtype, scale, last)
    lanes, size = p.lanes, p.wide.bytes
    tile = ChildrenTile(p, k.scratch())
    at_once = min(lanes, 4)

    def compare(number: Value, places: list[Value]) -> None:
        totals = [k.variable(p.wide.zero(lanes)) for _ in range(4)]
        grads = tile.value(number, p.padded)
        with k.loop(0, p.padded * size, lanes * size) as c:
            grad = p.wide.load(grads + c, lanes)
            for place, total in zip(places, totals, strict=True):
                total.set(k.fma(grad, p.wide.load(place + c, lanes), total.get()))
        for q in range(0, 4, at_once):
            k.store(k.sums([total.get() for total in totals[q : q + at_once]]), tile.at("dot", number * 4 + q))

    def differentiate(at: ChildrenRow) -> None:
        found: list[list[Value]] = [[] for _ in range(4)]
        for m in range(scale):
            dots = [p.wide.load(tile.at("dot", (m * 4 + q) * lanes), lanes) for q in range(4)]
            for q, dot in enumerate(k.deinterleave(dots)):
                found[q].append(dot)
        apart = [k.deinterleave(dots) for dots in found]
        on = p.below(at.x, p.width)
        for b in range(scale):
            d = [apart[q][b] for q in range(4)]
            u, free_x = (p.wide.load(tile.at("across", b * lanes, row), lanes) for row in range(2))
            v, free_y = (p.wide.load(tile.at("down", b * lanes, row), lanes) for row in range(2))
            along = k.fma(v, (d[3] - d[2]) - (d[1] - d[0]), d[1] - d[0])
            across = k.fma(u, (d[3] - d[1]) - (d[2] - d[0]), d[2] - d[0])
            for axis, (slope, free) in enumerate(((along, free_x), (across, free_y))):
                slope = k.select(free > 0.5, slope, p.wide.zero(lanes))  # whatever it would have been
                p.wide.store(slope, at.move(p, p.grad_offset, axis, b), on)

    with k.tasks() as task:
        y, rest = task % p.height, task // p.height
        n, group = rest // p.groups, rest % p.groups
        image = p.group_of(n, group)

        def row(at: ChildrenRow) -> None:
            locate(p, at, image, tile, weigh=False)
            read_gradient(p, at, k.constant(0), p.padded, tile)
            over_samples(p, at, tile, compare)
            differentiate(at)

        over_rows(p, n, group, y, row)


def grad_image(kernel: Kernel, dtype: str, scale: int, last: bool, vectors: int) -> None:
    """The gradient of the image, which begins as zeros, from offset and out's gradient.

    Samples may lie anywhere: a task owns some channels of a group of a whole image, and adds up in the order of the
    output's pixels.
    """
    k, p = kernel, ChildrenProblem.read(kernel, dtype, scale, last)
    lanes, bytes_ = p.lanes, p.wide.bytes
    tile = ChildrenTile(p, k.scratch())
    with k.tasks() as task:
        part, rest = task % p.parts, task // p.parts
        n, group = rest // p.groups, rest % p.groups
        size = p.padded // p.parts
        first = part * size
        image = p.group_of(n, group) + first * bytes_

        def scatter(number: Value, places: list[Value]) -> None:
            weights = weights_of(p, tile, number)
            grads = tile.value(number, size)
            with k.loop(0, size * bytes_, lanes * vectors * bytes_) as c:
                for u in range(vectors):
                    here = c + u * lanes * bytes_
                    grad = p.wide.load(grads + here, lanes)
                    for weight, place in zip(weights, places, strict=True):
                        k.store(k.fma(weight, grad, p.wide.load(place + here, lanes)), place + here)

        def row(at: ChildrenRow) -> None:
            locate(p, at, image, tile, weigh=True)
            read_gradient(p, at, first, size, tile)
            over_samples(p, at, tile, scatter)

        with k.loop(0, p.height) as y:
            over_rows(p, n, group, y, row)
