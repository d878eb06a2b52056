"""What CARAFE's kernels share: the problem they are given, and the tiles that masks pass through.

Axes: x (N, C, H, W), mask (N, g*k*k, s*H, s*W), out (N, C, s*H, s*W). A *parent* is a pixel of x, its s*s *children*
are the output pixels above it, a *tap* is one of the k*k places of a parent's window.

Channels-first kernels (`carafe_first`) put neighbouring parents of a row in the lanes of a vector, channels-last
kernels (`carafe_last`) neighbouring channels. All keep many sums in registers, so that each loaded vector feeds
several multiply-adds:

    forward     sums: children x channels            x is loaded once for all children of a parent
    grad_x      sums: taps of a row x channels       grad is loaded once for all pixels of a row that it reaches
    grad_mask   sums: children x taps of a row       over all channels

Masks pass through a tile in which the children of neighbouring parents are pulled apart ("deinterleaved"), the same
for both formats. Each result is summed by one thread in one order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from opbench.kernels.carafe_shapes import Weights
from opbench.kernels.cpu.element import Element, Tensor, tensor_argument
from opbench.kernels.cpu.ir import I32, Kernel, Value, Variable
from opbench.kernels.cpu.launch import FIRST

# The launcher's arguments, in order; each tensor, or its gradient, is a pointer and four strides in bytes. `channels`
# is per group. A task covers `span` columns of a row of parents, which has `spans` of them.
SIZES = ("groups", "channels", "height", "width", "span", "spans")
TENSORS = ("x", "mask", "out")


@dataclass(frozen=True)
class TileProblem:
    """What every kernel is given."""

    kernel: Kernel
    element: Element
    size: int
    scale: int
    source: Weights
    groups: Value
    channels: Value
    height: Value
    width: Value
    span: Value
    spans: Value
    x: Tensor
    mask: Tensor
    out: Tensor

    @classmethod
    def read(cls, kernel: Kernel, dtype: str, size: int, scale: int, source: Weights) -> TileProblem:
        """From the arguments the kernel is called with."""
        given: dict[str, Any] = {name: kernel.argument(FIRST + i) for i, name in enumerate(SIZES)}
        for i, name in enumerate(TENSORS):
            given[name] = tensor_argument(kernel, FIRST + len(SIZES) + 5 * i)
        return cls(kernel, Element(kernel, dtype), size, scale, source, **given)

    @property
    def radius(self) -> int:
        """Pixels of a window on either side of its centre."""
        return self.size // 2

    @property
    def children(self) -> int:
        """Output pixels above a pixel of x."""
        return self.scale * self.scale

    @property
    def lanes(self) -> int:
        """Parents in a vector, whatever the memory format."""
        return self.element.lanes

    @property
    def step(self) -> int:
        """Bytes of one vector of the tile."""
        return self.element.lanes * self.element.compute_bytes

    @property
    def tile_step(self) -> int:
        """Bytes of the tile of one vector of parents: all taps of all children."""
        return self.size * self.size * self.children * self.step

    def tap(self, i: Value, j: Value | int, a: Value | int, b: int = 0) -> Value:
        """Where a tap of child (a, b) lies in the tile."""
        row = (i * self.size + j) * self.scale + a
        return (row * self.scale + b) * self.step


@dataclass(frozen=True)
class Place:
    """Where a task is: image, group, its first channel and mask channel, row, first column, columns."""

    n: Value
    channel: Value
    plane: Value
    y: Value
    x: Value
    valid: Value

    @classmethod
    def of(cls, p: TileProblem, task: Value) -> Place:
        """Spans of a row come first, then rows, groups, images."""
        x = task % p.spans * p.span
        rest = task // p.spans
        y, rest = rest % p.height, rest // p.height
        g = rest % p.groups
        valid = p.kernel.minimum(p.span, p.width - x)
        return cls(rest // p.groups, g * p.channels, g * (p.size * p.size), y, x, valid)

    def of_tap(self, tap: Value) -> Place:
        """The same with the mask's channel of a tap in the place of the group's first."""
        return replace(self, plane=self.plane + tap)

    def shifted(self, columns: Value) -> Place:
        """The rest of the span from a column on."""
        return replace(self, x=self.x + columns, valid=self.valid - columns)


# --- Pieces -----------------------------------------------------------------------------------------------------


def lanes_below(p: TileProblem, first: Value | int, limit: Value) -> Value:
    """Which lanes' number, counted from `first`, lies in 0 .. limit-1."""
    k = p.kernel
    start = first if isinstance(first, Value) else k.constant(first)
    number = k.iota(p.lanes, I32) + k.splat(k.convert(start, I32), p.lanes)
    return number.below(k.splat(k.convert(limit, I32), p.lanes))


def prefetch_children(p: TileProblem, place: Value) -> None:
    """Asks for a row of the children of neighbouring parents."""
    for m in range(p.scale):
        p.kernel.prefetch(place + m * p.lanes * p.element.bytes)


def read_children(p: TileProblem, place: Value, valid: Value | None) -> list[Value]:
    """One row of the children of neighbouring parents: one vector for each of the s children in the row."""
    e, vectors = p.element, []
    for m in range(p.scale):
        on = None if valid is None else lanes_below(p, m * p.lanes, valid * p.scale)
        vectors.append(e.load(place + m * p.lanes * e.bytes, p.lanes, on))
    return p.kernel.deinterleave(vectors)


def write_children(p: TileProblem, place: Value, vectors: list[Value], valid: Value | None, *, stream: bool) -> None:
    """The inverse of `read_children`."""
    e = p.element
    for m, vector in enumerate(p.kernel.interleave(vectors)):
        on = None if valid is None else lanes_below(p, m * p.lanes, valid * p.scale)
        e.store(vector, place + m * p.lanes * e.bytes, on, stream=stream)


def read_mask(p: TileProblem, at: Place, a: Value, tile: Value, gap: int, keep: Value | None) -> None:
    """Weights of a tap, `at.plane` of the mask, for row `a` of the children of neighbouring parents into the tile.

    The next child lies `gap` bytes further; lanes not kept become 0.
    """
    k, e, valid = p.kernel, p.element, at.valid
    along = p.mask.strides[3]
    source = p.mask.at(at.n, at.plane, at.y * p.scale + a, at.x * p.scale)

    def put(vectors: list[Value]) -> None:
        for b, vector in enumerate(vectors):
            k.store(vector if keep is None else k.select(keep, vector, e.zero(p.lanes)), tile + b * gap)

    def strided() -> None:
        for b in range(p.scale):
            k.store(e.zero(p.lanes), tile + b * gap)
        with k.loop(0, k.minimum(valid, p.lanes)) as lane:
            for b in range(p.scale):
                one = e.load(source + (lane * p.scale + b) * along, 1)
                k.store(one, tile + lane * e.compute_bytes + b * gap)
        put([k.load(tile + b * gap, e.vector(p.lanes)) for b in range(p.scale)])

    def dense() -> None:
        k.choose(valid >= p.lanes, lambda full: put(read_children(p, source, None if full else valid)))

    if p.source == "apart":
        k.choose(valid >= p.lanes, lambda full: put(read_apart(p, at, a, whole=full)))
    else:
        k.choose(along.equals(e.bytes), lambda yes: dense() if yes else strided())


def places_apart(p: TileProblem, at: Place, a: Value) -> list[Value]:
    """Where the weights of a tap, `at.plane`, of each child of row `a` lie in a mask that is "apart"."""
    return [p.mask.at(at.n, (at.plane * p.scale + a) * p.scale + b, at.y, at.x) for b in range(p.scale)]


def read_apart(p: TileProblem, at: Place, a: Value, *, whole: bool) -> list[Value]:
    """One vector for each of the s children in the row."""
    on = None if whole else lanes_below(p, 0, at.valid)
    return [p.element.load(place, p.lanes, on) for place in places_apart(p, at, a)]


def rows_inside(p: TileProblem, y: Value) -> tuple[Value, Value]:
    """The rows i of the window for which y + i - radius is a row of the image."""
    k = p.kernel
    return k.maximum(k.constant(p.radius) - y, 0), k.minimum(p.height + p.radius - y, p.size)


def window_tile(p: TileProblem, at: Place, tile: Value) -> None:
    """Fills tile[tap][child][parent] for a vector of parents; taps outside the image are 0 whatever the mask holds."""
    k = p.kernel
    first, last = rows_inside(p, at.y)
    with k.loop(first, last) as i, k.loop(0, p.size) as j:
        keep = lanes_below(p, at.x + j - p.radius, p.width)
        with k.loop(0, p.scale) as a:
            read_mask(p, at.of_tap(i * p.size + j), a, tile + p.tap(i, j, a), p.step, keep)


def write_mask_gradient(p: TileProblem, at: Place, tile: Value) -> None:
    """The tile of a vector of parents -> the mask's gradient, exactly 0 for taps outside the image."""
    k, e = p.kernel, p.element
    first, last = rows_inside(p, at.y)
    full = at.valid >= p.lanes

    def put(i: Value, j: Value, a: Value, keep: Value | None) -> None:
        place = p.mask.at(at.n, at.plane + i * p.size + j, at.y * p.scale + a, at.x * p.scale)
        vectors = [e.zero(p.lanes)] * p.scale
        if keep is not None:
            read = [k.load(tile + p.tap(i, j, a, b), e.vector(p.lanes)) for b in range(p.scale)]
            vectors = [k.select(keep, vector, e.zero(p.lanes)) for vector in read]
        k.choose(full, lambda full: write_children(p, place, vectors, None if full else at.valid, stream=False))

    with k.loop(0, p.size) as j:
        keep = lanes_below(p, at.x + j - p.radius, p.width)
        with k.loop(0, p.scale) as a:
            with k.loop(first, last) as i:
                put(i, j, a, keep)
            for start, stop in ((k.constant(0), first), (last, k.constant(p.size))):
                with k.loop(start, stop) as i:
                    put(i, j, a, None)


def reaching_tile(p: TileProblem, at: Place, start: Value, stop: Value, tile: Value) -> None:
    """Fills tile[vector of parents][i][child][j][parent] with the mask of the parents in columns start .. stop-1 that
    reach row y through row i of their window.
    """
    k = p.kernel
    first, last = rows_reaching(p, at.y)
    with k.loop(start, stop, p.lanes) as column, k.loop(first, last) as i, k.loop(0, p.size) as j:
        parents = replace(at.of_tap(i * p.size + j), y=at.y - i + p.radius, x=column, valid=stop - column)
        with k.loop(0, p.scale) as a:
            place = tile + (column - start) // p.lanes * p.tile_step + reach(p, i, a * p.scale, j)
            read_mask(p, parents, a, place, p.size * p.step, None)


def reach(p: TileProblem, i: Value, child: Value | int, j: Value | int) -> Value:
    """Where a tap lies in one vector's part of `reaching_tile`."""
    return ((i * p.children + child) * p.size + j) * p.step


def rows_reaching(p: TileProblem, y: Value) -> tuple[Value, Value]:
    """The rows i of the window for which y - i + radius is a row of the image."""
    k = p.kernel
    return k.maximum(y + p.radius - p.height + 1, 0), k.minimum(y + (p.radius + 1), p.size)


def variables(p: TileProblem, lanes: int, rows: int, columns: int) -> list[list[Variable]]:
    """A table of sums, all 0."""
    return [[p.kernel.variable(p.element.zero(lanes)) for _ in range(columns)] for _ in range(rows)]


def accumulate(k: Kernel, total: Variable, a: Value, b: Value) -> None:
    """total += a * b."""
    total.set(k.fma(a, b, total.get()))


def rows_together(p: TileProblem, sums_per_child: int) -> int:
    """Rows of children summed at once: both where s is 2 and the registers hold them, else one."""
    return 2 if p.scale == 2 and 4 * sums_per_child <= p.kernel.target.sums else 1


def runs(count: int, most: int) -> list[range]:
    """0 .. count-1 in as few runs of at most `most` as possible, evenly."""
    parts = -(-count // max(1, most))
    bounds = [count * part // parts for part in range(parts + 1)]
    return [range(a, b) for a, b in pairwise(bounds)]


def for_channels(p: TileProblem, step: int, emit: Callable[[Value, int], None]) -> None:
    """`emit(first, count)` for all channels of a group, `step` at a time and the rest one by one."""
    k = p.kernel
    whole = p.channels - p.channels % step
    with k.loop(0, whole, step) as c:
        emit(c, step)
    if step > 1:
        with k.loop(whole, p.channels) as c:
            emit(c, 1)
