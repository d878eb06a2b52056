"""DySample's sampling in Triton: the kernels. Imported when the first of them is launched, and not before.

Axes: x (N, C, H, W), offset (N, 2*G*s*s, H, W), whose channels are (x or y, group, row, column of a child), and out
(N, C, s*H, s*W). Each output pixel of each group is a *sample*; it reads four *corners* (`bilinear_kernels`). A tile
has output pixels and channels of a group, in the order that AXIS says. Every tensor is read at its own strides, so that
one kernel is native to channels-first and channels-last.

A sample lies at its parent pixel, a whole number, moved by its offset: of that the whole part is added to the pixel as
an integer and the rest is what weighs the corners, so that rounding is the same at every place of the image. A
sample outside the pixels' centres is held at the nearest of them, and has no slope along that axis; so is one whose
offset is infinite, and at 0 one whose offset is not a number. WIDE kernels index within an image by 64 bits; across
images all do. Locations and sums are in ACC.
"""

from __future__ import annotations

import triton
import triton.language as tl

from opbench.kernels.triton.bilinear_kernels import (
    add_gradients,
    add_samples,
    of_channels,
    of_samples,
    tile_of_zeros,
    tile_pixels,
)


@triton.jit
def _held(move: tl.tensor, parent: tl.tensor, size: tl.tensor) -> tl.tensor:
    """Along one axis: the pixel at or before a sample, how far this is beyond it, whether it isn't held at a border."""
    # Comparisons with a NaN are false; converting what isn't near to an integer would be undefined.
    move = tl.where(move > -536870912.0, move, -536870912.0)
    move = tl.where(move < 536870912.0, move, 536870912.0)
    whole = tl.floor(move)
    pixel = parent + whole.to(tl.int32)
    free = (pixel >= 0) & (pixel < size - 1)
    beyond = tl.where(free, move - whole, 0.0)
    pixel = tl.minimum(tl.maximum(pixel, 0), size - 1)
    return pixel, beyond, free


@triton.jit
def _child(
    oy: tl.tensor, ox: tl.tensor, row: tl.tensor, column: tl.tensor, child: tl.tensor, S: tl.constexpr,
    WIDE: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Where the offsets of output pixels lie within a group: those of one axis are s*s planes."""
    number, h, w = oy % S * S + ox % S, oy // S, ox // S
    if WIDE:
        number, h, w = number.to(tl.int64), h.to(tl.int64), w.to(tl.int64)
    return number * child + h * row + w * column


@triton.jit
def forward(
    x: tl.tensor, offset: tl.tensor, out: tl.tensor,
    H: tl.tensor, W: tl.tensor, G: tl.tensor, CG: tl.tensor, columns: tl.tensor, tiles: tl.tensor, blocks: tl.tensor,
    xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor,
    fn: tl.tensor, fc: tl.tensor, fh: tl.tensor, fw: tl.tensor,
    on: tl.tensor, oc: tl.tensor, oh: tl.tensor, ow: tl.tensor,
    S: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr, AXIS: tl.constexpr,
    BH: tl.constexpr, BW: tl.constexpr, BC: tl.constexpr,
) -> None:  # fmt: skip
    """out: a program takes a tile of output pixels and BC channels of a group."""
    rest = tl.program_id(0)
    block = rest % blocks
    rest = rest // blocks
    g = (rest % G).to(tl.int64)
    rest = rest // G
    n = (rest // tiles).to(tl.int64)
    oy, ox, there = tile_pixels(rest % tiles, columns, H * S, W * S, BH, BW)
    place = offset + n * fn + _child(oy, ox, fh, fw, fc, S, WIDE)
    move_x = tl.load(place + g * (S * S) * fc, mask=there, other=0).to(ACC)
    move_y = tl.load(place + (g + G) * (S * S) * fc, mask=there, other=0).to(ACC)
    left, across, _ = _held(move_x, ox // S, W)
    top, down, _ = _held(move_y, oy // S, H)
    c = block * BC + tl.arange(0, BC)
    on_c = c < CG
    if WIDE:
        oy, ox, c = oy.to(tl.int64), ox.to(tl.int64), c.to(tl.int64)
    acc = tile_of_zeros(BH * BW, BC, AXIS, ACC)
    x += n * xn + g * CG * xc
    acc = add_samples(acc, 1.0, x, left, top, across, down, there, c * xc, on_c, H, W, xh, xw, ACC, WIDE, AXIS)
    place = out + n * on + g * CG * oc + of_samples(oy * oh + ox * ow, AXIS) + of_channels(c * oc, AXIS)
    tl.store(place, acc, mask=of_samples(there, AXIS) & of_channels(on_c, AXIS))


@triton.jit
def backward(
    x: tl.tensor, offset: tl.tensor, grad: tl.tensor, grad_x: tl.tensor, grad_offset: tl.tensor,
    H: tl.tensor, W: tl.tensor, G: tl.tensor, CG: tl.tensor, columns: tl.tensor, tiles: tl.tensor, blocks: tl.tensor,
    xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor,
    fn: tl.tensor, fc: tl.tensor, fh: tl.tensor, fw: tl.tensor,
    on: tl.tensor, oc: tl.tensor, oh: tl.tensor, ow: tl.tensor,
    gn: tl.tensor, gc: tl.tensor, gh: tl.tensor, gw: tl.tensor,
    S: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr, TO_X: tl.constexpr, TO_OFFSET: tl.constexpr,
    AXIS: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr, BC: tl.constexpr,
) -> None:  # fmt: skip
    """Gradients: that of offset reduces all channels of a group in the program, x's is added up by atomics.

    `grad_x` is in ACC and begins as zeros; `grad_offset` is contiguous.
    """
    rest = tl.program_id(0)
    g = (rest % G).to(tl.int64)
    rest = rest // G
    n = (rest // tiles).to(tl.int64)
    oy, ox, there = tile_pixels(rest % tiles, columns, H * S, W * S, BH, BW)
    place = offset + n * fn + _child(oy, ox, fh, fw, fc, S, WIDE)
    move_x = tl.load(place + g * (S * S) * fc, mask=there, other=0).to(ACC)
    move_y = tl.load(place + (g + G) * (S * S) * fc, mask=there, other=0).to(ACC)
    left, across, free_x = _held(move_x, ox // S, W)
    top, down, free_y = _held(move_y, oy // S, H)
    first = oy * oh + ox * ow
    if WIDE:
        first = oy.to(tl.int64) * oh + ox.to(tl.int64) * ow
    x += n * xn + g * CG * xc
    grad += n * on + g * CG * oc
    grad_x += n * gn + g * CG * gc
    for_x = tile_of_zeros(BH * BW, BC, AXIS, ACC)
    for_y = tile_of_zeros(BH * BW, BC, AXIS, ACC)
    for block in range(blocks):
        c = block * BC + tl.arange(0, BC)
        on_c = c < CG
        if WIDE:
            c = c.to(tl.int64)
        read = grad + of_samples(first, AXIS) + of_channels(c * oc, AXIS)
        from_out = tl.load(read, mask=of_samples(there, AXIS) & of_channels(on_c, AXIS), other=0).to(ACC)
        _, for_x, for_y = add_gradients(
            for_x, for_x, for_y, 1.0, from_out, x, grad_x, left, top, across, down, there, c * xc, c * gc, on_c, H, W,
            xh, xw, gh, gw, ACC, WIDE, TO_X, TO_OFFSET, False, AXIS,
        )  # fmt: skip
    if TO_OFFSET:
        axis = n * (2 * G) + g
        place = grad_offset + _child(oy, ox, W, 1, H * W, S, WIDE)
        tl.store(place + axis * (S * S) * H * W, tl.where(free_x, tl.sum(for_x, AXIS), 0.0), mask=there)
        tl.store(place + (axis + G) * (S * S) * H * W, tl.where(free_y, tl.sum(for_y, AXIS), 0.0), mask=there)


@triton.jit
def cells(
    offset: tl.tensor, keys: tl.tensor, across: tl.tensor, down: tl.tensor,
    H: tl.tensor, W: tl.tensor, G: tl.tensor, samples: tl.tensor,
    fn: tl.tensor, fc: tl.tensor, fh: tl.tensor, fw: tl.tensor,
    S: tl.constexpr, ACC: tl.constexpr, B: tl.constexpr,
) -> None:  # fmt: skip
    """For every sample (N, s*H, s*W, G) its cell, (N, G, H + 1, W + 1), and where in that it lies."""
    sample = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    there = sample < samples
    g = sample % G
    pixel = sample // G
    ox, oy, n = pixel % (W * S), pixel // (W * S) % (H * S), pixel // (W * S) // (H * S)
    place = offset + n * fn + _child(oy, ox, fh, fw, fc, S, True)
    move_x = tl.load(place + g * (S * S) * fc, mask=there, other=0).to(ACC)
    move_y = tl.load(place + (g + G) * (S * S) * fc, mask=there, other=0).to(ACC)
    left, share_x, _ = _held(move_x, (ox // S).to(tl.int32), W)
    top, share_y, _ = _held(move_y, (oy // S).to(tl.int32), H)
    tl.store(keys + sample, ((n * G + g) * (H + 1) + top + 1) * (W + 1) + left + 1, mask=there)
    tl.store(across + sample, share_x, mask=there)
    tl.store(down + sample, share_y, mask=there)
