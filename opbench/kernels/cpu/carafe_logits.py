"""What CARAFE's kernels do with logits, (N, g*k*k*s*s, H, W) as the encoder returns them, in the place of a mask.

The channels of a pixel of the encoder are the tile's order already, so that a pixel shuffle is nothing to be done.
"""

from __future__ import annotations

from collections.abc import Callable

from opbench.kernels.carafe_shapes import Weights
from opbench.kernels.cpu.carafe_tiles import (
    Place,
    TileProblem,
    lanes_below,
    places_apart,
    rows_inside,
    window_tile,
    write_mask_gradient,
)
from opbench.kernels.cpu.exponential import exponential
from opbench.kernels.cpu.ir import Kernel, Value
from opbench.kernels.cpu.layout_kernels import transposed_from


def weights_tile(p: TileProblem, at: Place, tile: Value) -> None:
    """Fills tile[tap][child][parent] for a vector of parents, from a mask or from logits."""
    (window_tile if p.source == "mask" else _softmax_tile)(p, at, tile)


def write_weights_gradient(p: TileProblem, at: Place, tile: Value) -> None:
    """The tile of a vector of parents, a mask's gradient -> where it belongs, or the gradient of the mask's logits."""
    (write_mask_gradient if p.source == "mask" else _write_logits_gradient)(p, at, tile)


def weights(kernel: Kernel, dtype: str, size: int, scale: int, source: Weights) -> None:
    """The weights that the softmax of logits gives, "apart", into the third tensor, which has the logits' shape."""
    k, p = kernel, TileProblem.read(kernel, dtype, size, scale, source)
    tile = k.scratch()
    with k.tasks() as task:
        at = Place.of(p, task)

        def write(child: Value, share: Value) -> None:
            on = lanes_below(p, 0, at.valid)
            with k.loop(0, size * size) as tap:
                place = p.out.at(at.n, (at.plane + tap) * p.children + child, at.y, at.x)
                p.element.store(_power(p, tile, tap, child) * share, place, on)

        _powers(p, at, tile, write)


def _softmax_tile(p: TileProblem, at: Place, tile: Value) -> None:
    """The softmax over all taps of each child; then those outside the image are 0."""
    k, e = p.kernel, p.element
    first, last = rows_inside(p, at.y)

    def inside(child: Value, share: Value) -> None:
        with k.loop(0, p.size) as j:
            keep = lanes_below(p, at.x + j - p.radius, p.width)
            with k.loop(first, last) as i:
                tap = i * p.size + j
                weight = k.select(keep, _power(p, tile, tap, child) * share, e.zero(p.lanes))
                k.store(weight, _place(p, tile, tap, child))

    _powers(p, at, tile, inside)


def _powers(p: TileProblem, at: Place, tile: Value, emit: Callable[[Value, Value], None]) -> None:
    """Fills the tile with e to the power of the logits, less the largest of a child's.

    `emit(child, share)`: by what the powers of a child are to be multiplied, that they add up to 1.
    """
    k, e = p.kernel, p.element
    (_logits_by_channels if p.source == "logits last" else _logits_by_rows)(p, at, tile)
    with k.loop(0, p.children) as child:
        top = k.variable(_power(p, tile, k.constant(0), child))
        with k.loop(1, p.size * p.size) as tap:
            top.set(k.maximum(_power(p, tile, tap, child), top.get()))
        total = k.variable(e.zero(p.lanes))
        with k.loop(0, p.size * p.size) as tap:
            power = exponential(k, _power(p, tile, tap, child) - top.get())
            k.store(power, _place(p, tile, tap, child))
            total.set(total.get() + power)
        emit(child, k.constant(1.0, e.vector(p.lanes)) / total.get())


def _power(p: TileProblem, tile: Value, tap: Value, child: Value) -> Value:
    """A vector of the tile."""
    return p.kernel.load(_place(p, tile, tap, child), p.element.vector(p.lanes))


def _place(p: TileProblem, tile: Value, tap: Value, child: Value) -> Value:
    """Where it lies."""
    return tile + (tap * p.children + child) * p.step


def _logits_by_rows(p: TileProblem, at: Place, tile: Value) -> None:
    """Neighbouring parents lie side by side."""
    k, e = p.kernel, p.element
    begin = at.plane * p.children

    def fill(full: bool) -> None:
        on = None if full else lanes_below(p, 0, at.valid)
        with k.loop(0, p.size * p.size * p.children) as channel:
            k.store(e.load(p.mask.at(at.n, begin + channel, at.y, at.x), p.lanes, on), tile + channel * p.step)

    k.choose(at.valid >= p.lanes, fill)


def _logits_by_channels(p: TileProblem, at: Place, tile: Value) -> None:
    """The channels of a parent lie side by side: squares are transposed."""
    k, e = p.kernel, p.element
    begin, channels = at.plane * p.children, p.size * p.size * p.children
    whole = channels // p.lanes * p.lanes

    def fill(full: bool) -> None:
        def square(channel: Value, count: int) -> None:
            places = [p.mask.at(at.n, begin + channel, at.y, at.x + t) for t in range(p.lanes)]
            on = lanes_below(p, 0, k.constant(count))
            alike = full and count == p.lanes
            for t, vector in enumerate(transposed_from(k, e, places, k.constant(0), at.valid, on, whole=alike)[:count]):
                k.store(vector, tile + (channel + t) * p.step)

        with k.loop(0, whole, p.lanes) as channel:
            square(channel, p.lanes)
        if whole < channels:
            square(k.constant(whole), channels - whole)

    k.choose(at.valid >= p.lanes, fill)


def _write_logits_gradient(p: TileProblem, at: Place, tile: Value) -> None:
    """The logits' gradient, written in the place of the weights, which are "apart".

    A logit's gradient is its weight times what the gradient of that weight is above the mean of its window's, weighted
    alike. A weight outside the image has gradient 0, its logit has not.
    """
    k, e = p.kernel, p.element
    first, stop = rows_inside(p, at.y)
    none = k.constant(0)

    def write(full: bool) -> None:
        on = None if full else lanes_below(p, 0, at.valid)
        with k.loop(0, p.scale) as a:
            means = [k.variable(e.zero(p.lanes)) for _ in range(p.scale)]

            def weights(i: Value, j: Value, a: Value = a) -> list[Value]:
                return places_apart(p, at.of_tap(i * p.size + j), a)

            def gradient(i: Value, j: Value, b: int, keep: Value, a: Value = a) -> Value:
                return k.select(keep, k.load(tile + p.tap(i, j, a, b), e.vector(p.lanes)), e.zero(p.lanes))

            with k.loop(0, p.size) as j:
                keep = lanes_below(p, at.x + j - p.radius, p.width)
                with k.loop(first, stop) as i:
                    for b, place in enumerate(weights(i, j)):
                        mean = means[b]
                        mean.set(k.fma(e.load(place, p.lanes, on), gradient(i, j, b, keep), mean.get()))
            with k.loop(0, p.size) as j:
                keep = lanes_below(p, at.x + j - p.radius, p.width)
                for begin, end, inside in (
                    (none, first, False),
                    (first, stop, True),
                    (stop, k.constant(p.size), False),
                ):
                    with k.loop(begin, end) as i:
                        for b, place in enumerate(weights(i, j)):
                            own = gradient(i, j, b, keep) if inside else e.zero(p.lanes)
                            e.store(e.load(place, p.lanes, on) * (own - means[b].get()), place, on)

    k.choose(at.valid >= p.lanes, write)
