"""CARAFE's kernels for channels-last tensors: lanes are neighbouring channels.

`lanes` divides the channels of a group, and so does `lanes * vectors`.
"""

from __future__ import annotations

from collections.abc import Sequence

from opbench.kernels.carafe_shapes import Weights
from opbench.kernels.cpu.carafe_logits import weights_tile, write_weights_gradient
from opbench.kernels.cpu.carafe_tiles import (
    Place,
    TileProblem,
    accumulate,
    reach,
    reaching_tile,
    rows_inside,
    rows_reaching,
    rows_together,
    runs,
    variables,
)
from opbench.kernels.cpu.ir import Kernel, Value, Variable


def forward(
    kernel: Kernel, dtype: str, size: int, scale: int, source: Weights, lanes: int, vectors: int, stream: bool
) -> None:
    """out from x and mask. `stream` bypasses the caches with an output too large for them."""
    k, p = kernel, TileProblem.read(kernel, dtype, size, scale, source)
    e, s = p.element, p.scale
    rows = rows_together(p, vectors)
    tile = k.scratch()

    def pixel(at: Place, c: Value, parent: Value) -> None:
        first, last = rows_inside(p, at.y)
        x = at.x + parent
        left, right = k.maximum(k.constant(p.radius) - x, 0), k.minimum(p.width + p.radius - x, size)
        with k.loop(0, s, rows) as a:
            sums = variables(p, lanes, rows * s, vectors)
            with k.loop(first, last) as i, k.loop(left, right) as j:
                place = p.x.at(at.n, at.channel + c, at.y + i - p.radius, x + j - p.radius)
                values = [e.load(place + u * lanes * e.bytes, lanes) for u in range(vectors)]
                for q in range(rows * s):
                    weight = k.load(tile + p.tap(i, j, a) + q * p.step + parent * e.compute_bytes, e.compute)
                    m = k.splat(weight, lanes)
                    for u in range(vectors):
                        accumulate(k, sums[q][u], m, values[u])
            for q in range(rows * s):
                place = p.out.at(at.n, at.channel + c, at.y * s + a + q // s, x * s + q % s)
                for u in range(vectors):
                    e.store(sums[q][u].get(), place + u * lanes * e.bytes, stream=stream)

    with k.tasks() as task:
        at = Place.of(p, task)
        weights_tile(p, at, tile)
        with k.loop(0, p.channels, lanes * vectors) as c, k.loop(0, at.valid) as parent:
            pixel(at, c, parent)


def grad_mask(kernel: Kernel, dtype: str, size: int, scale: int, source: Weights, lanes: int) -> None:
    """The mask's gradient from x and the output's gradient: a sum over all channels of a group."""
    k, p = kernel, TileProblem.read(kernel, dtype, size, scale, source)
    e, s = p.element, p.scale
    columns = runs(size, k.target.sums // s)
    rows = rows_together(p, max(len(run) for run in columns))
    tile = k.scratch()

    def pixel(at: Place, i: Value, a: Value, run: range, parent: Value) -> None:
        sums = variables(p, lanes, rows * s, len(run))
        x = at.x + parent
        places = [p.out.at(at.n, at.channel, at.y * s + a + q // s, x * s + q % s) for q in range(rows * s)]
        windows = []
        for j in run:  # a tap outside the image reads a pixel inside; its result is dropped
            column = k.minimum(k.maximum(x + (j - p.radius), 0), p.width - 1)
            windows.append(p.x.at(at.n, at.channel, at.y + i - p.radius, column))
        with k.loop(0, p.channels * e.bytes, lanes * e.bytes) as c:
            grads = [e.load(place + c, lanes) for place in places]
            for t, window in enumerate(windows):
                value = e.load(window + c, lanes)
                for q, grad in enumerate(grads):
                    accumulate(k, sums[q][t], grad, value)
        vectors = [total.get() for line in sums for total in line]
        taps = [p.tap(i, j, a) + q * p.step for q in range(rows * s) for j in run]
        for first in range(0, len(vectors), lanes):
            totals = k.sums(vectors[first : first + lanes])
            for lane, tap in enumerate(taps[first : first + lanes]):
                k.store(k.extract(totals, lane), tile + tap + parent * e.compute_bytes)

    with k.tasks() as task:
        at = Place.of(p, task)
        first, last = rows_inside(p, at.y)
        with k.loop(0, at.valid) as parent, k.loop(first, last) as i, k.loop(0, s, rows) as a:
            for run in columns:
                pixel(at, i, a, run, parent)
        write_weights_gradient(p, at, tile)


def grad_x(kernel: Kernel, dtype: str, size: int, scale: int, source: Weights, lanes: int, vectors: int) -> None:
    """x's gradient from the mask and the output's gradient.

    The parents of a row are visited from left to right. The k pixels that the current one reaches are summed in
    registers; the leftmost of them is complete once it is left behind.
    """
    k, p = kernel, TileProblem.read(kernel, dtype, size, scale, source)
    e, s = p.element, p.scale
    tile = k.scratch()

    def put(at: Place, c: Value, x: Value, totals: Sequence[Variable]) -> None:
        with k.when((x - at.x).below(at.valid)):
            place = p.x.at(at.n, at.channel + c, at.y, x)
            for u, total in enumerate(totals):
                e.store(total.get(), place + u * lanes * e.bytes)

    def parent(at: Place, c: Value, x: Value, weights: Value, sums: list[list[Variable]]) -> None:
        first, last = rows_reaching(p, at.y)
        with k.loop(first, last) as i:
            y = (at.y - i + p.radius) * s
            with k.loop(0, s) as a, k.loop(0, s) as b:
                place = p.out.at(at.n, at.channel + c, y + a, x * s + b)
                grads = [e.load(place + u * lanes * e.bytes, lanes) for u in range(vectors)]
                for j in range(size):
                    m = k.splat(k.load(weights + reach(p, i, a * s + b, j), e.compute), lanes)
                    for u in range(vectors):
                        accumulate(k, sums[j][u], grads[u], m)

    with k.tasks() as task:
        at = Place.of(p, task)
        start = k.maximum(at.x - p.radius, 0)
        stop = k.minimum(at.x + at.valid + p.radius, p.width)
        reaching_tile(p, at, start, stop, tile)
        with k.loop(0, p.channels, lanes * vectors) as c:
            sums = variables(p, lanes, size, vectors)
            with k.loop(start, stop) as x:
                lane = (x - start) % p.lanes
                weights = tile + (x - start) // p.lanes * p.tile_step + lane * e.compute_bytes
                parent(at, c, x, weights, sums)
                put(at, c, x - p.radius, sums[0])
                for j in range(size):
                    for u in range(vectors):
                        sums[j][u].set(sums[j + 1][u].get() if j + 1 < size else e.zero(lanes))
            for j in range(size - 1):
                put(at, c, stop + (j - p.radius), sums[j])
