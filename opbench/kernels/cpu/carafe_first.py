"""CARAFE's kernels for contiguous (channels-first) tensors: lanes are neighbouring parents."""

from __future__ import annotations

from opbench.kernels.carafe_shapes import Weights
from opbench.kernels.cpu.carafe_logits import weights_tile, write_weights_gradient
from opbench.kernels.cpu.carafe_tiles import (
    Place,
    TileProblem,
    accumulate,
    for_channels,
    lanes_below,
    prefetch_children,
    reach,
    reaching_tile,
    read_children,
    rows_inside,
    rows_reaching,
    rows_together,
    runs,
    variables,
    write_children,
)
from opbench.kernels.cpu.ir import Kernel, Value


def forward(kernel: Kernel, dtype: str, size: int, scale: int, source: Weights, stream: bool) -> None:
    """out from x and mask. `stream` bypasses the caches with an output too large for them."""
    k, p = kernel, TileProblem.read(kernel, dtype, size, scale, source)
    e, s = p.element, p.scale
    rows = rows_together(p, 1)
    step = max(1, (16 if k.target.registers >= 32 else 8) // (rows * s))
    tile = k.scratch()

    def block(at: Place, weights: Value, c: Value, count: int, edge: bool) -> None:
        first, last = rows_inside(p, at.y)
        with k.loop(0, s, rows) as a:
            sums = variables(p, p.lanes, count, rows * s)
            with k.loop(first, last) as i:
                for d in range(count):
                    k.prefetch(p.x.at(at.n, at.channel + c + count + d, at.y + i - p.radius, at.x))
                with k.loop(0, size) as j:
                    column = at.x + j - p.radius
                    on = lanes_below(p, column, p.width) if edge else None
                    m = [k.load(weights + p.tap(i, j, a) + q * p.step, e.vector(p.lanes)) for q in range(rows * s)]
                    for d in range(count):
                        value = e.load(p.x.at(at.n, at.channel + c + d, at.y + i - p.radius, column), p.lanes, on)
                        for q in range(rows * s):
                            accumulate(k, sums[d][q], m[q], value)
            for d in range(count):
                for r in range(rows):
                    place = p.out.at(at.n, at.channel + c + d, at.y * s + a + r, at.x * s)
                    vectors = [v.get() for v in sums[d][r * s : (r + 1) * s]]
                    write_children(p, place, vectors, at.valid if edge else None, stream=stream)

    with k.tasks() as task:
        at = Place.of(p, task)
        with k.loop(0, at.valid, p.lanes) as b:
            weights_tile(p, at.shifted(b), tile + b // p.lanes * p.tile_step)

        def across(c: Value, count: int) -> None:
            with k.loop(0, at.valid, p.lanes) as b:
                here, weights = at.shifted(b), tile + b // p.lanes * p.tile_step
                edge = (here.x < p.radius) | (here.x + (p.lanes + p.radius) > p.width)
                k.choose(edge, lambda edge: block(here, weights, c, count, edge))

        for_channels(p, step, across)


def grad_mask(kernel: Kernel, dtype: str, size: int, scale: int, source: Weights) -> None:
    """The mask's gradient from x and the output's gradient: a sum over all channels of a group.

    Channels are taken a batch at a time, few enough for what is read of them to stay in the first-level cache while
    the rows of the window are gone through.
    """
    k, p = kernel, TileProblem.read(kernel, dtype, size, scale, source)
    e, s = p.element, p.scale
    columns = runs(size, k.target.sums // s)
    rows = rows_together(p, max(len(run) for run in columns))
    batch, ahead = 32, 6
    tile = k.scratch()

    def block(at: Place, start: Value, i: Value, edge: bool) -> None:
        with k.loop(0, s, rows) as a:
            for run in columns:
                sums = variables(p, p.lanes, rows * s, len(run))
                places = [[tile + p.tap(i, j, a) + q * p.step for j in run] for q in range(rows * s)]
                with k.when(start > 0):
                    for line, where in zip(sums, places, strict=True):
                        for total, place in zip(line, where, strict=True):
                            total.set(k.load(place, e.vector(p.lanes)))
                with k.loop(start, k.minimum(start + batch, p.channels)) as c:
                    grads: list[Value] = []
                    for r in range(rows):
                        place = p.out.at(at.n, at.channel + c, at.y * s + a + r, at.x * s)
                        grads += read_children(p, place, at.valid if edge else None)
                        prefetch_children(p, place + p.out.strides[1] * ahead)
                    k.prefetch(p.x.at(at.n, at.channel + c + ahead, at.y + i - p.radius, at.x))
                    for t, j in enumerate(run):
                        column = at.x + (j - p.radius)
                        on = lanes_below(p, column, p.width) if edge else None
                        value = e.load(p.x.at(at.n, at.channel + c, at.y + i - p.radius, column), p.lanes, on)
                        for q, grad in enumerate(grads):
                            accumulate(k, sums[q][t], grad, value)
                for line, where in zip(sums, places, strict=True):
                    for total, place in zip(line, where, strict=True):
                        k.store(total.get(), place)

    with k.tasks() as task:
        at = Place.of(p, task)
        first, last = rows_inside(p, at.y)
        edge = (at.x < p.radius) | (at.x + (p.lanes + p.radius) > p.width)
        with k.loop(0, p.channels, batch) as start, k.loop(first, last) as i:
            k.choose(edge, lambda edge: block(at, start, i, edge))
        write_weights_gradient(p, at, tile)


def grad_x(kernel: Kernel, dtype: str, size: int, scale: int, source: Weights) -> None:
    """x's gradient from the mask and the output's gradient.

    Each parent's contribution to the k pixels of a row that it reaches is summed over the children and over the rows
    it reaches them from; then these k rows of sums are added, each shifted to its place.
    """
    k, p = kernel, TileProblem.read(kernel, dtype, size, scale, source)
    e, s = p.element, p.scale
    columns = runs(size, k.target.sums - 2)
    step = max(1, min(4, k.target.sums // max(len(run) for run in columns)))
    most = (p.span + (2 * p.radius + p.lanes - 1)) // p.lanes  # vectors of parents that reach a span
    tile = k.scratch()
    partial = tile + most * p.tile_step
    margin = -(-p.radius // p.lanes) * p.lanes
    row = (most * p.lanes + (2 * margin + p.lanes)) * e.compute_bytes  # bytes of one row of sums

    def spread(at: Place, start: Value, stop: Value, column: Value, c: Value, count: int, full: bool) -> None:
        """One vector of parents: its k rows of sums for `count` channels."""
        first, last = rows_reaching(p, at.y)
        weights = tile + (column - start) // p.lanes * p.tile_step
        for run in columns:
            sums = variables(p, p.lanes, count, len(run))
            with k.loop(first, last) as i:
                y = (at.y - i + p.radius) * s
                with k.loop(0, s) as a:
                    grads = []
                    for d in range(count):
                        place = p.out.at(at.n, at.channel + c + d, y + a, column * s)
                        grads.append(read_children(p, place, None if full else stop - column))
                        prefetch_children(p, place + p.out.strides[1] * count)
                    for b in range(s):
                        for t, j in enumerate(run):
                            m = k.load(weights + reach(p, i, a * s + b, j), e.vector(p.lanes))
                            for d in range(count):
                                accumulate(k, sums[d][t], grads[d][b], m)
            for d in range(count):
                for t, j in enumerate(run):
                    place = partial + row * (d * size + j) + (column - start + margin) * e.compute_bytes
                    k.store(sums[d][t].get(), place)

    def gather(at: Place, start: Value, c: Value, count: int) -> None:
        """Adds the rows of sums, shifted, into x's gradient."""
        with k.loop(0, at.valid, p.lanes) as v:
            for d in range(count):
                total = e.zero(p.lanes)
                for j in range(size):
                    shift = at.x + v - start + (margin + p.radius - j)
                    place = partial + row * (d * size + j) + shift * e.compute_bytes
                    total = total + k.load(place, e.vector(p.lanes))
                place = p.x.at(at.n, at.channel + c + d, at.y, at.x + v)
                left = at.valid - v

                def put(full: bool, total: Value = total, place: Value = place, left: Value = left) -> None:
                    e.store(total, place, None if full else lanes_below(p, 0, left))

                k.choose(left >= p.lanes, put)

    with k.tasks() as task:
        at = Place.of(p, task)
        start = k.maximum(at.x - p.radius, 0)
        stop = k.minimum(at.x + at.valid + p.radius, p.width)
        reaching_tile(p, at, start, stop, tile)
        ends = (stop - start + (p.lanes - 1)) // p.lanes * p.lanes + margin
        for line in range(step * size):
            for offset in range(0, margin, p.lanes):
                k.store(e.zero(p.lanes), partial + row * line + offset * e.compute_bytes)
            for offset in range(0, margin + p.lanes, p.lanes):
                k.store(e.zero(p.lanes), partial + row * line + (ends + offset) * e.compute_bytes)

        def across(c: Value, count: int) -> None:
            with k.loop(start, stop, p.lanes) as column:
                full = column + p.lanes <= stop
                k.choose(full, lambda full: spread(at, start, stop, column, c, count, full))
            gather(at, start, c, count)

        for_channels(p, step, across)
