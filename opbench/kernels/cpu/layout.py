"""Images with the channels of a pixel side by side, and back: what kernels that sample read and write.

torch's own copy of a permuted image takes an element at a time; here squares of it are transposed in registers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.kernels.cpu.jit import kernel
from opbench.kernels.cpu.launch import launch

KERNELS = "opbench.kernels.cpu.layout_kernels"
# Pixels of a task: squares of them lie in a few rows of every channel.
PIXELS = 64
# An element that is moved takes about as long as so many multiply-adds.
MOVED = 4


def pixels(x: Tensor, *, groups: int = 1, padded: int = 0, dtype: torch.dtype | None = None) -> Tensor:
    """x (N, C, H, W) -> (N, G, H, W, Cp): in `dtype`, each group of C/G channels followed by zeros up to `padded`.

    A group lies together: of groups side by side, one alone would use a few sets of the first-level cache, and fall out
    of it. x's rows must be dense. Without `padded` there are no zeros; `dtype` is x's or a wider one.
    """
    n, c, h, w = x.shape
    out = torch.empty((n, groups, h, w, padded or c // groups), dtype=dtype or x.dtype)
    _move(out, x, back=False)
    return out


def planes(image: Tensor, out: Tensor) -> None:
    """Fills out (N, C, H, W), whose rows are dense, from what `pixels` makes of it."""
    _move(image, out, back=True)


def _move(image: Tensor, x: Tensor, *, back: bool) -> None:
    if not x.numel():
        return
    n, c, h, w = x.shape
    groups, padded = image.shape[1], image.shape[4]
    size = x.element_size()
    rows, columns = (1, h * w) if h == 1 or x.stride(2) == w else (h, w)  # one long row, where rows adjoin
    strides = [x.stride(axis) * size for axis in range(3)]
    spans = -(-columns // PIXELS)
    dtypes = (str(t.dtype).removeprefix("torch.") for t in (x, image))
    launch(
        kernel(KERNELS, "move", *dtypes, back),
        [
            groups, c // groups, padded, rows, columns, spans, PIXELS, image.data_ptr(), x.data_ptr(), *strides, size,
        ],
        tasks=n * rows * spans,
        scratch_bytes=0,
        work=x.numel() * MOVED,
    )  # fmt: skip
