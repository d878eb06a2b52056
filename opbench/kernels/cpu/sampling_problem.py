"""What the sampling kernels are given, and the memory that they work samples out in.

Axes: x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask (N, Ho, Wo, G*P), out (N, Ho, Wo, C); P sampling points. One
point of one group at one output pixel is a *sample*; it reads four *corners*.

Where samples lie is one of `PLACES`. `window`: `offset` holds displacements from the points of a window that moves
with the output pixel (DCNv3). `zeros` and `border`: `offset` holds positions in pixels of x; outside x there are zeros,
or the nearest pixel of its border. `border-twice`: as `border`, and a sample counts twice for each axis along which it
is held there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opbench.kernels.cpu.element import Element, Tensor, tensor_argument
from opbench.kernels.cpu.ir import F64, PTR, Kernel, Value
from opbench.kernels.cpu.launch import FIRST

PLACES = ("window", "zeros", "border", "border-twice")
# What samples are multiplied with: nothing, the mask, or the softmax over a group's points of logits in its place.
WEIGHTS = ("none", "mask", "logits")

# The launcher's arguments, in order. `channels` is per group. The window of output pixel (0, 0) is centred on pixel
# (origin, origin) of x. A block is `pixels` of a row times `batch` groups; its `samples` are rounded up to whole
# vectors. A task is `rows` times `columns` blocks, of which `spans` cover a row; or, for x's gradient, one of
# `spans` batches of groups of an image, or one of `parts` parts of a group. `ahead` rows below the centre of a window
# are fetched before they are needed. `stride`, `origin`, `ahead`, the scale and the grid belong to windows.
SIZES = (
    "groups", "channels", "points", "height", "width", "out_height", "out_width", "stride", "origin",
    "pixels", "rows", "columns", "batch", "samples", "spans", "parts", "ahead",
)  # fmt: skip
# The last stride of offset, mask and their gradients is from a group to the next: the numbers of a group are dense.
TENSORS = ("x", "offset", "mask", "out", "grad_offset", "grad_mask")

# Rows of the tile that a block's samples are worked out in. `corner` holds addresses, `partial` how many vectors before
# this one have a corner that doesn't count (and one more vector); the others hold numbers.
ROWS = {"corner": 4, "partial": 2, "move": 2, "mask": 1, "number": 4, "dot": 4}
WIDE_ROWS = ("corner", "partial")


@dataclass(frozen=True)
class Problem:
    """What every kernel is given. `located` is how `offset` lies in memory, `weights` is one of `WEIGHTS`.

    `single` says that there is one sample a pixel and group.
    """

    kernel: Kernel
    element: Element
    located: Element
    places: str
    first: str
    weights: str
    single: bool
    groups: Value
    channels: Value
    points: Value
    height: Value
    width: Value
    out_height: Value
    out_width: Value
    stride: Value
    origin: Value
    pixels: Value
    rows: Value
    columns: Value
    batch: Value
    samples: Value
    spans: Value
    parts: Value
    ahead: Value
    scale: Value
    grid: Value
    x: Tensor
    offset: Tensor
    mask: Tensor
    out: Tensor
    grad_offset: Tensor
    grad_mask: Tensor

    @classmethod
    def read(cls, kernel: Kernel, dtype: str, places: str, first: str, weights: str, single: bool) -> Problem:
        """From the arguments the kernel is called with. `first` is the axis that comes first in a pair of `offset`."""
        element = Element(kernel, dtype)
        # Displacements have x's dtype; positions would lose pixels in a narrow one.
        wide = places == "window" or element.bytes == element.compute_bytes
        given: dict[str, Any] = {name: kernel.argument(FIRST + i) for i, name in enumerate(SIZES)}
        after = FIRST + len(SIZES)
        scale = kernel.argument(after, F64)
        if element.compute != F64:
            scale = kernel.convert(scale, element.compute)
        for i, name in enumerate(TENSORS):
            given[name] = tensor_argument(kernel, after + 2 + 5 * i)
        return cls(
            kernel, element, element if wide else Element(kernel, "float32"), places, first, weights, single,
            scale=scale, grid=kernel.argument(after + 1, PTR), **given,
        )  # fmt: skip


@dataclass(frozen=True)
class Image:
    """Where corners are found: the first pixel's address, strides of rows and pixels, and the row for the others."""

    start: Value
    row: Value
    pixel: Value
    nowhere: Value

    def corners(self) -> list[Value]:
        """The corners of a sample, in bytes from the first."""
        return [self.start.kernel.constant(0), self.pixel, self.row, self.row + self.pixel]


@dataclass(frozen=True)
class SampleBlock:
    """Neighbouring output pixels in a row, and groups."""

    n: Value
    y: Value
    x: Value
    pixels: Value
    group: Value

    def samples(self, p: Problem) -> Value:
        """How many it has."""
        return self.pixels * p.batch * p.points


class Tile:
    """A block's samples in this thread's scratch memory, row by row, and what lies behind them."""

    def __init__(self, p: Problem, start: Value) -> None:
        self.p = p
        self.places = {}
        for name, rows in ROWS.items():
            self.places[name] = start
            start = start + p.samples * (rows * self._bytes(name))
        self.end = start

    def _bytes(self, name: str) -> int:
        return 8 if name in WIDE_ROWS else self.p.element.compute_bytes

    def at(self, name: str, sample: Value, row: int = 0) -> Value:
        """Where a sample lies in one of the rows of a name."""
        return self.places[name] + (self.p.samples * row + sample) * self._bytes(name)

    def vector(self, name: str, sample: Value, row: int = 0) -> Value:
        """A vector of numbers."""
        return self.p.kernel.load(self.at(name, sample, row), self.p.element.vector(self.p.element.lanes))
