"""Squares of an image transposed in registers: rows of pixels into rows of channels, and back."""

from __future__ import annotations

from typing import Any

from opbench.kernels.cpu.element import Element, tensor_argument
from opbench.kernels.cpu.ir import I32, PTR, Kernel, Value
from opbench.kernels.cpu.launch import FIRST

# Bytes of a vector within which shuffles are cheap: those across have one port of the processor to themselves.
LANE = 16


def move(kernel: Kernel, dtype: str, wide: str, back: bool) -> None:
    """The image (N, G, H, W, Cp) of x (N, G*C, H, W), or (`back`) an image's x; channels behind C are zeros."""
    k = kernel
    groups, channels, padded, height, width, spans, span = (k.argument(FIRST + i) for i in range(7))
    image, x = k.argument(FIRST + 7, PTR), tensor_argument(k, FIRST + 8)
    narrow, computed = Element(k, dtype), Element(k, wide)
    lanes, size = narrow.lanes, computed.bytes
    pixel = padded * size

    def below(first: Value, limit: Value) -> Value:
        return k.iota(lanes, I32) < k.splat(k.convert(limit - first, I32), lanes)

    with k.tasks() as task:
        left, rest = task % spans * span, task // spans
        right = k.minimum(left + span, width)
        y, n = rest % height, rest // height
        start = image + (n * groups * height + y) * width * pixel
        with k.loop(0, groups) as group, k.loop(0, padded, lanes) as c, k.loop(left, right, lanes) as first:
            rows = [x.at(n, group * channels + c + t, y, first) for t in range(lanes)]
            row = start + group * height * width * pixel + c * size
            columns = [row + pixel * (first + t) for t in range(lanes)]
            on, filled, there = below(first, right), below(c, channels), below(c, padded)

            def emit(
                whole: bool, rows: Any = rows, columns: Any = columns, first: Any = first, c: Any = c, on: Any = on,
                there: Any = there,
            ) -> None:  # fmt: skip
                if back:
                    held = transposed_from(k, computed, columns, first, right, there, whole=whole)
                    put(k, narrow, held, rows, c, channels, on, whole=whole)
                else:
                    held = transposed_from(k, narrow, rows, c, channels, on, whole=whole)
                    put(k, computed, held, columns, first, right, there, whole=whole)

            k.choose(k.all(on) & k.all(filled), emit)


# --- Pieces -----------------------------------------------------------------------------------------------------


def transposed(k: Kernel, vectors: list[Value]) -> list[Value]:
    """As many vectors as they have lanes: lane t of vector i goes to lane i of vector t."""
    return _exchanged(k, vectors, len(vectors))


def _exchanged(k: Kernel, vectors: list[Value], most: int) -> list[Value]:
    """Transposes squares of `most` vectors and lanes."""
    found, step = list(vectors), 1
    lanes = range(vectors[0].type.count)
    while step < most:
        for i in range(len(found)):
            if not i & step:
                a, b = found[i], found[i + step]
                found[i] = k.shuffle(a, b, [t if not t & step else len(lanes) + t - step for t in lanes])
                found[i + step] = k.shuffle(a, b, [t + step if not t & step else len(lanes) + t for t in lanes])
        step *= 2
    return found


def transposed_from(
    k: Kernel, e: Element, places: list[Value], first: Value, limit: Value, on: Value | None, *, whole: bool
) -> list[Value]:
    """The vectors that lie at as many places as a vector has lanes, transposed.

    Unless all of them are `whole`: zeros where a place's number, counted from `first`, isn't below `limit`, or a lane
    of it isn't `on`.
    """
    lanes = len(places)
    if not whole:
        assert on is not None
        none = k.constant(0, on.type)
        masks = [k.select(first + t < limit, on, none) for t in range(lanes)]
        return transposed(k, [e.load(place, lanes, mask) for place, mask in zip(places, masks, strict=True)])
    piece = LANE // e.compute_bytes
    if e.bytes != e.compute_bytes or lanes <= piece:
        return transposed(k, [e.load(place, lanes) for place in places])
    # Pieces of distant vectors are put together as they are loaded, which takes no shuffle; the rest stays within them.
    found = []
    for j in range(0, lanes, piece):
        square = []
        for i in range(piece):
            parts = [e.load(places[t] + j * e.bytes, piece) for t in range(i, lanes, piece)]
            while len(parts) > 1:
                count = 2 * parts[0].type.count
                parts = [k.shuffle(a, b, range(count)) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            square.append(parts[0])
        found += _exchanged(k, square, piece)
    return found


def put(
    k: Kernel, e: Element, vectors: list[Value], places: list[Value], first: Value, limit: Value, on: Value | None,
    *, whole: bool, stream: bool = False,
) -> None:  # fmt: skip
    """Each vector to its place; unless they are `whole`, nothing where a number or a lane doesn't count."""
    for t, (vector, place) in enumerate(zip(vectors, places, strict=True)):
        if whole:
            e.store(vector, place, stream=stream)
        else:
            with k.when(first + t < limit):
                e.store(vector, place, on)
