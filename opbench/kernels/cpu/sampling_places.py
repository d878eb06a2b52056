"""How the sampling kernels find where a block's samples lie, whether they count, and where their corners are.

A sample outside (see `PLACES`), or whose place isn't a number, contributes nothing: its corners have weight 0 and lie
in a row kept for the purpose, so that nothing outside the image is touched.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from opbench.kernels.cpu.ir import I32, I64, Value
from opbench.kernels.cpu.sampling_blocks import gathered
from opbench.kernels.cpu.sampling_problem import Image, Problem, SampleBlock, Tile
from opbench.kernels.cpu.sampling_softmax import softmax


@dataclass(frozen=True)
class Coordinate:
    """A vector of samples along one axis: each lies `move` from the whole pixel `base` (from 0 where that is None).

    `free` says where the place follows what is given, in contrast to one that is held at the image's border.
    """

    move: Value
    base: Value | None
    inside: Value
    size: Value
    free: Value | None = None


def locate(p: Problem, block: SampleBlock, image: Image, tile: Tile, *, weigh: bool) -> None:
    """Works out a block's samples: where corners lie, and what they weigh with the mask (or else the fractions)."""
    k, e, lanes = p.kernel, p.element, p.element.lanes
    offsets = gathered(p, block, p.offset, tile.at("move", k.constant(0)), 2, p.located)
    masks = None
    if p.weights == "mask":
        masks = gathered(p, block, p.mask, tile.at("mask", k.constant(0)), 1, e)
    elif p.weights == "logits":
        masks = softmax(p, block, tile)
    ints, wide = ir.VectorType(I32, lanes), ir.VectorType(I64, lanes)
    one, zero = k.constant(1.0, e.vector(lanes)), e.zero(lanes)

    partial = k.variable(k.constant(0))
    k.store(partial.get(), tile.at("partial", k.constant(0)))
    with k.loop(0, block.samples(p), lanes) as first:
        pairs = [k.load(offsets + (first * 2 + m * lanes) * e.compute_bytes, e.vector(lanes)) for m in range(2)]
        given = k.deinterleave(pairs)
        given = given if p.first == "x" else given[::-1]
        found = _displaced(p, block, first, given) if p.places == "window" else _placed(p, given)
        inside = found[0].inside & found[1].inside

        indices, fractions, near, far = [], [], [], []
        for axis in found:
            move = k.select(inside, axis.move, zero)
            floor = k.floor(move)
            index = k.convert(floor, ints)
            if axis.base is not None:
                index = index + axis.base
            fractions.append(move - floor)
            indices.append(k.convert(index, wide))
            near.append(inside & index.below(axis.size))
            far.append(inside & (index + 1).below(axis.size))
        start = k.splat(image.start, lanes)
        start = start + indices[1] * k.splat(image.row, lanes) + indices[0] * k.splat(image.pixel, lanes)
        counts = [near[1] & near[0], near[1] & far[0], far[1] & near[0], far[1] & far[0]]
        nowhere = k.splat(image.nowhere, lanes)
        for q, (away, count) in enumerate(zip(image.corners(), counts, strict=True)):
            k.store(k.select(count, start + k.splat(away, lanes), nowhere), tile.at("corner", first, q))
        partly = k.select(k.all(counts[0] & counts[3]), k.constant(0), k.constant(1))
        partial.set(partial.get() + partly)
        k.store(partial.get(), tile.at("partial", first // lanes + 1))

        mask = None if masks is None else k.load(masks + first * e.compute_bytes, e.vector(lanes))
        right, down = fractions
        left, up = one - right, one - down
        if weigh:
            if p.places == "border-twice":
                (left, right), (up, down) = (
                    [share * times(p, axis.free) for share in pair]
                    for axis, pair in zip(found, ((left, right), (up, down)), strict=True)
                )
            weights = [up * left, up * right, down * left, down * right]
            for q, (weight, count) in enumerate(zip(weights, counts, strict=True)):
                weight = weight if mask is None else weight * mask
                k.store(k.select(count, weight, zero), tile.at("number", first, q))
        else:  # the mask is multiplied with later
            if mask is not None:
                k.store(mask, tile.at("mask", first))
            k.store(right, tile.at("number", first, 0))
            k.store(down, tile.at("number", first, 1))
            for row, axis in enumerate(found, 2):
                if axis.free is not None:
                    k.store(k.select(axis.free, one, zero), tile.at("number", first, row))


def times(p: Problem, free: Value | None) -> Value:
    """How often samples count along an axis along which they are free, or held at the border."""
    k, e = p.kernel, p.element
    assert free is not None
    return k.select(free, k.constant(1.0, e.vector(e.lanes)), k.constant(2.0, e.vector(e.lanes)))


def _displaced(p: Problem, block: SampleBlock, first: Value, given: list[Value]) -> list[Coordinate]:
    """Samples of a window, along x and y.

    Locations are never formed: an output pixel's window begins at a whole pixel, so only the displacement within the
    window is rounded, the same at every place of the image.
    """
    k, e, lanes = p.kernel, p.element, p.element.lanes
    ints = ir.VectorType(I32, lanes)
    steps = p.grid + p.samples * (2 * e.compute_bytes)  # how far each sample's pixel is from the block's first
    windows = [
        k.load(steps + first * 4, ints) + k.splat(k.convert(block.x * p.stride + p.origin, I32), lanes),
        k.splat(k.convert(block.y * p.stride + p.origin, I32), lanes),
    ]
    found = []
    for axis, (move, window, size) in enumerate(zip(given, windows, _sizes(p), strict=True)):
        tap = k.load(p.grid + (p.samples * axis + first) * e.compute_bytes, e.vector(lanes))
        move = (tap + move) * k.splat(p.scale, lanes)
        low, high = (k.convert(v, e.vector(lanes)) for v in (k.constant(-1, ints) - window, size - window))
        found.append(Coordinate(move, window, (move > low) & (move < high), size))  # not inside if NaN
    return found


def _placed(p: Problem, given: list[Value]) -> list[Coordinate]:
    """Samples whose positions are given, along x and y."""
    k, e, lanes = p.kernel, p.element, p.element.lanes
    found = []
    for position, size in zip(given, _sizes(p), strict=True):
        length = k.convert(size, e.vector(lanes))
        if p.places == "zeros":
            inside = (position > k.constant(-1.0, e.vector(lanes))) & (position < length)  # not inside if NaN
            found.append(Coordinate(position, None, inside, size))
        else:
            zero, last = e.zero(lanes), length - 1.0
            held = k.select(position > zero, position, zero)
            held = k.select(held < last, held, last)
            free = (position >= zero) & (position < last)
            found.append(Coordinate(held, None, position.equals(position), size, free))
    return found


def _sizes(p: Problem) -> list[Value]:
    k, lanes = p.kernel, p.element.lanes
    return [k.splat(k.convert(size, I32), lanes) for size in (p.width, p.height)]
