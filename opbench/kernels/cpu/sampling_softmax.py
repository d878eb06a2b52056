"""The softmax over the points of a group: numbers side by side, often too few to fill a vector.

The groups of a block's pixels, "windows", are gone through in order and written in whole vectors: what stands behind
the last point of one is overwritten by the next, and behind the last window lies nothing that is kept.
"""

from __future__ import annotations

from collections.abc import Callable

from opbench.kernels.cpu.exponential import exponential
from opbench.kernels.cpu.ir import I32, Value
from opbench.kernels.cpu.sampling_blocks import copy_in
from opbench.kernels.cpu.sampling_problem import Problem, SampleBlock, Tile


def softmax(p: Problem, block: SampleBlock, tile: Tile) -> Value:
    """The weights of a block's logits: where they are, side by side. The row `dot` holds nothing yet."""
    k, e = p.kernel, p.element
    copy_in(p, block, p.mask, tile.at("dot", k.constant(0)), 1, e)
    lowest = k.constant(float("-inf"), e.vector(e.lanes))

    def window(first: Value) -> None:
        top, total = k.variable(lowest), k.variable(e.zero(e.lanes))

        def highest(sample: Value, on: Value) -> None:
            top.set(k.maximum(k.select(on, tile.vector("dot", sample), lowest), top.get()))

        _over_points(p, first, highest)
        most = k.splat(k.reduced(top.get(), k.maximum), e.lanes)

        def raise_to(sample: Value, on: Value) -> None:
            power = exponential(k, tile.vector("dot", sample) - most)
            k.store(power, tile.at("mask", sample))
            total.set(total.get() + k.select(on, power, e.zero(e.lanes)))

        _over_points(p, first, raise_to)
        share = k.splat(k.constant(1.0, e.compute) / k.reduced(total.get(), Value.__add__), e.lanes)
        _over_points(p, first, lambda s, _: k.store(tile.vector("mask", s) * share, tile.at("mask", s)))

    _over_windows(p, block, window)
    return tile.at("mask", k.constant(0))


def softmax_gradient(p: Problem, block: SampleBlock, tile: Tile) -> Value:
    """From weights (row `mask`) and their gradients (row 2 of `number`), the logits': where they are, side by side.

    A logit's gradient is its weight times what the gradient of that weight is above the mean of its window's, weighted
    alike.
    """
    k, e = p.kernel, p.element

    def window(first: Value) -> None:
        total = k.variable(e.zero(e.lanes))

        def add(sample: Value, on: Value) -> None:
            product = tile.vector("mask", sample) * tile.vector("number", sample, 2)
            total.set(total.get() + k.select(on, product, e.zero(e.lanes)))

        _over_points(p, first, add)
        mean = k.splat(k.reduced(total.get(), Value.__add__), e.lanes)

        def write(sample: Value, _: Value) -> None:
            above = tile.vector("number", sample, 2) - mean
            k.store(tile.vector("mask", sample) * above, tile.at("dot", sample))

        _over_points(p, first, write)

    _over_windows(p, block, window)
    return tile.at("dot", k.constant(0))


def _over_windows(p: Problem, block: SampleBlock, emit: Callable[[Value], None]) -> None:
    """`emit(first sample)` for each pixel and group of a block."""
    with p.kernel.loop(0, block.samples(p), p.points) as first:
        emit(first)


def _over_points(p: Problem, first: Value, emit: Callable[[Value, Value], None]) -> None:
    """`emit(sample, lanes that are of this window)` for the vectors of a window."""
    k, lanes = p.kernel, p.element.lanes
    with k.loop(0, p.points, lanes) as point:
        emit(first + point, k.iota(lanes, I32) < k.splat(k.convert(p.points - point, I32), lanes))
