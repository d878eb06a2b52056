"""What DySample's kernels share: the problem they are given, and how they find where a row's samples lie.

Axes: x (N, C, H, W), offset (N, 2*G*s*s, H, W), out (N, C, s*H, s*W); the *image* (N, G, H, W, Cp), or (N, H, W, G, Cp)
where x lies like that, is x with a pixel's channels side by side, in the dtype that is computed with, each group padded
with zeros to whole vectors.

Every location is held within the image, so that all corners of a cell are pixels; one that is no number is held at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from opbench.kernels.cpu.element import Element, Tensor, tensor_argument
from opbench.kernels.cpu.ir import I32, I64, PTR, Kernel, Value
from opbench.kernels.cpu.launch import FIRST
from opbench.kernels.cpu.layout_kernels import transposed_from

# The launcher's arguments, in order; `channels` and `padded` are per group. `pixel` and `apart` are bytes from a pixel
# and from a group of the image to the next. `parts` belongs to x's gradient, of which a task owns one of so many parts
# of a group's channels. Then image, offset and its gradient (contiguous), and out or its gradient, with 4 strides.
SIZES = ("groups", "channels", "padded", "height", "width", "pixel", "apart", "parts")
# Rows of a tile, each as long as the samples of a vector of input pixels: addresses and weights of four corners, what
# the gradient has in common with them, and the fractions and freedom of places.
ROWS = {"corner": 4, "weight": 4, "dot": 4, "across": 2, "down": 2}


@dataclass(frozen=True)
class ChildrenProblem:
    """What every kernel is given; `last` says that the tensor's channels are dense."""

    kernel: Kernel
    element: Element
    wide: Element
    scale: int
    last: bool
    groups: Value
    channels: Value
    padded: Value
    height: Value
    width: Value
    pixel: Value
    apart: Value
    parts: Value
    image: Value
    offset: Value
    grad_offset: Value
    out: Tensor

    @classmethod
    def read(cls, kernel: Kernel, dtype: str, scale: int, last: bool) -> ChildrenProblem:
        """From the arguments the kernel is called with."""
        given: dict[str, Any] = {name: kernel.argument(FIRST + i) for i, name in enumerate(SIZES)}
        after = FIRST + len(SIZES)
        pointers = (kernel.argument(after + i, PTR) for i in range(3))
        given |= zip(("image", "offset", "grad_offset"), pointers, strict=True)
        wide = Element(kernel, "float64" if dtype == "float64" else "float32")
        element = Element(kernel, dtype)
        return cls(kernel, element, wide, scale, last, out=tensor_argument(kernel, after + 3), **given)

    @property
    def lanes(self) -> int:
        """Input pixels, output pixels or channels of a vector."""
        return self.element.lanes

    @property
    def samples(self) -> int:
        """Children of a vector of input pixels in one row of the output."""
        return self.lanes * self.scale

    def group_of(self, n: Value, group: Value) -> Value:
        """Where a group of an image begins."""
        pixels = n * self.height * self.width * self.groups
        return self.image + pixels * self.padded * self.wide.bytes + group * self.apart

    def below(self, first: Value | int, limit: Value) -> Value:
        """Which lanes' numbers, counted from `first`, are below `limit`."""
        k = self.kernel
        start = first if isinstance(first, Value) else k.constant(first)
        return k.iota(self.lanes, I32) < k.splat(k.convert(limit - start, I32), self.lanes)


@dataclass(frozen=True)
class ChildrenRow:
    """Children (a, 0 .. s-1) of a vector of input pixels: image, group, row, first column."""

    n: Value
    group: Value
    y: Value
    x: Value
    a: Value

    def move(self, p: ChildrenProblem, start: Value, axis: int, b: int) -> Value:
        """Where a vector of offsets (or of their gradient) lies."""
        plane = (self.n * 2 + axis) * p.groups + self.group
        plane = (plane * p.scale + self.a) * p.scale + b
        return start + ((plane * p.height + self.y) * p.width + self.x) * p.wide.bytes


class ChildrenTile:
    """A thread's scratch memory: what is known of a row's samples, and a vector of channels for each of them."""

    def __init__(self, p: ChildrenProblem, start: Value) -> None:
        self.p = p
        self.places = {}
        for name, rows in ROWS.items():
            self.places[name] = start
            start = start + rows * p.samples * 8
        self.values = start

    def at(self, name: str, sample: Value | int, row: int = 0) -> Value:
        """Where a sample's number lies in one of the rows of a name."""
        size = 8 if name == "corner" else self.p.wide.bytes
        return self.places[name] + (sample + row * self.p.samples) * size

    def value(self, sample: Value | int, size: Value) -> Value:
        """Where a sample's channels lie, of which there are `size`."""
        return self.values + size * sample * self.p.wide.bytes


# --- Pieces -----------------------------------------------------------------------------------------------------


def locate(p: ChildrenProblem, at: ChildrenRow, image: Value, tile: ChildrenTile, *, weigh: bool) -> None:
    """Works out where a row's samples lie: corners and weights, or else fractions and where they follow offsets."""
    k, lanes = p.kernel, p.lanes
    vector, ints, longs = p.wide.vector(lanes), ir.VectorType(I32, lanes), ir.VectorType(I64, lanes)
    zero, one = p.wide.zero(lanes), k.constant(1.0, vector)
    on = p.below(at.x, p.width)
    places = (k.iota(lanes, I32) + k.splat(k.convert(at.x, I32), lanes), k.splat(k.convert(at.y, I32), lanes))
    steps = (p.pixel, p.pixel * p.width)
    corners: list[list[Value]] = [[] for _ in range(4)]
    weights: list[list[Value]] = [[] for _ in range(4)]
    for b in range(p.scale):
        starts, nexts, fractions = [], [], []
        for axis, (place, size, step) in enumerate(zip(places, (p.width, p.height), steps, strict=True)):
            end = k.splat(k.convert(size - 1, I32), lanes)
            last = k.convert(end, vector)
            location = k.convert(place, vector) + p.wide.load(at.move(p, p.offset, axis, b), lanes, on)
            held = k.select(location > zero, location, zero)  # 0 where it is no number
            held = k.select(held < last, held, last)
            floor = k.floor(held)
            index = k.convert(floor, ints)
            fraction = held - floor
            fractions.append(fraction)
            starts.append(k.convert(index, longs) * k.splat(step, lanes))
            nexts.append(k.select(index < end, k.splat(step, lanes), k.constant(0, longs)))
            if not weigh:
                free = k.select((location >= zero) & (location < last), one, zero)
                name = ("across", "down")[axis]
                k.store(fraction, tile.at(name, b * lanes, 0))
                k.store(free, tile.at(name, b * lanes, 1))
        corner = k.splat(k.address(image), lanes) + starts[0] + starts[1]
        right, down = nexts
        for q, place in enumerate((corner, corner + right, corner + down, corner + down + right)):
            corners[q].append(place)
        (u, v), (left, up) = fractions, (one - fractions[0], one - fractions[1])
        for q, weight in enumerate((up * left, up * u, v * left, v * u)):
            weights[q].append(weight)
    # In the order of the output's pixels.
    for q in range(4):
        for m, (corner, weight) in enumerate(zip(k.interleave(corners[q]), k.interleave(weights[q]), strict=True)):
            k.store(corner, tile.at("corner", m * lanes, q))
            if weigh:
                k.store(weight, tile.at("weight", m * lanes, q))


def over_samples(
    p: ChildrenProblem, at: ChildrenRow, tile: ChildrenTile, emit: Callable[[Value, list[Value]], None]
) -> None:
    """`emit(sample, places of its corners)` for those of a row that are of pixels."""
    k = p.kernel
    with k.loop(0, k.minimum((p.width - at.x) * p.scale, p.samples)) as sample:
        emit(sample, [k.pointer(k.load(tile.at("corner", sample, q), I64)) for q in range(4)])


def weights_of(p: ChildrenProblem, tile: ChildrenTile, sample: Value) -> list[Value]:
    """A sample's four weights, each in every lane."""
    k = p.kernel
    return [k.splat(k.load(tile.at("weight", sample, q), p.wide.compute), p.lanes) for q in range(4)]


def over_output(p: ChildrenProblem, at: ChildrenRow, first: Value, size: Value, emit: Callable[..., None]) -> None:
    """`emit(sample, channel, places, lanes that count)` for the vectors of a row of the output, by `size` channels.

    There is a place for each of a vector's rows, or None where all lanes of it are off (behind the last channel).
    """
    k, lanes = p.kernel, p.lanes
    channel = at.group * p.channels + first
    most = k.minimum(p.channels - first, size)
    y, x = at.y * p.scale + at.a, at.x * p.scale
    with k.loop(0, size, lanes) as c:
        for m in range(p.scale):
            if p.last:
                for t in range(lanes):
                    inside = x + (m * lanes + t) < p.width * p.scale
                    with k.when(inside):
                        on = p.below(c, most)
                        emit(m * lanes + t, c, [p.out.at(at.n, channel + c, y, x + (m * lanes + t))], on)
            else:
                column = x + m * lanes
                with k.when(column < p.width * p.scale):
                    on = p.below(column, p.width * p.scale)
                    emit(m * lanes, c, [p.out.at(at.n, channel + c + t, y, column) for t in range(lanes)], on)


def read_gradient(p: ChildrenProblem, at: ChildrenRow, first: Value, size: Value, tile: ChildrenTile) -> None:
    """The gradient of a row of the output into the tile, sample by sample."""
    k, lanes = p.kernel, p.lanes
    most = k.minimum(p.channels - first, size)

    def read(sample: int, c: Value, places: list[Value], on: Value) -> None:
        if p.last:
            k.store(p.element.load(places[0], lanes, on), tile.value(sample, size) + c * p.wide.bytes)
            return

        def take(whole: bool) -> None:
            for t, vector in enumerate(transposed_from(k, p.element, places, c, most, on, whole=whole)):
                k.store(vector, tile.value(sample + t, size) + c * p.wide.bytes)

        k.choose(k.all(on) & (c + lanes <= most), take)

    over_output(p, at, first, size, read)


def over_rows(p: ChildrenProblem, n: Value, group: Value, y: Value, emit: Callable[[ChildrenRow], None]) -> None:
    """`emit(row)` for the children of a row of input pixels."""
    k = p.kernel
    with k.loop(0, p.scale) as a, k.loop(0, p.width, p.lanes) as x:
        emit(ChildrenRow(n, group, y, x, a))
