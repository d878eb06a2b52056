"""Bilinear sampling in Triton: what the kernels that sample have in common.

A tile has samples on one axis and channels on the other, which is AXIS: 1 where neighbouring channels are near in
memory, 0 where neighbouring pixels are, for Triton lays a warp along the last axis of a tile whose places it knows
nothing of.

A *sample* lies `across` and `down`, each in [0, 1], from its upper left *corner*, the pixel (left, top), and reads four
corners. One that is outside the image has no weight and is not read. Samples that don't count have no corner inside.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tile_pixels(
    pixel: tl.tensor, columns: tl.tensor, Ho: tl.tensor, Wo: tl.tensor, BH: tl.constexpr, BW: tl.constexpr
) -> tl.tensor:
    """The output pixels (y, x) of a BH x BW tile, and which of them there are."""
    number = tl.arange(0, BH * BW)
    y, x = pixel // columns * BH + number // BW, pixel % columns * BW + number % BW
    on = (y < Ho) & (x < Wo)
    return y, x, on


@triton.jit
def tile_of_zeros(SAMPLES: tl.constexpr, CHANNELS: tl.constexpr, AXIS: tl.constexpr, ACC: tl.constexpr) -> tl.tensor:
    """A tile of sums."""
    return tl.zeros([SAMPLES, CHANNELS] if AXIS == 1 else [CHANNELS, SAMPLES], ACC)


@triton.jit
def of_samples(values: tl.tensor, AXIS: tl.constexpr) -> tl.tensor:
    """A number for each sample, to be met by those of the channels."""
    return tl.expand_dims(values, AXIS)


@triton.jit
def of_channels(values: tl.tensor, AXIS: tl.constexpr) -> tl.tensor:
    """A number for each channel, to be met by those of the samples."""
    return tl.expand_dims(values, 1 - AXIS)


@triton.jit
def places(left: tl.tensor, top: tl.tensor, row: tl.tensor, column: tl.tensor, WIDE: tl.constexpr) -> tl.tensor:
    """Where upper left corners lie in an image of these strides."""
    if WIDE:
        left, top = left.to(tl.int64), top.to(tl.int64)
    return top * row + left * column


@triton.jit
def corner(
    left: tl.tensor, top: tl.tensor, across: tl.tensor, down: tl.tensor, counts: tl.tensor,
    H: tl.tensor, W: tl.tensor, ROW: tl.constexpr, COLUMN: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Whose corner of this row and column is inside, and what part of a sample it is by row and by column."""
    inside = counts & (top + ROW >= 0) & (top + ROW < H) & (left + COLUMN >= 0) & (left + COLUMN < W)
    share_y = down if ROW == 1 else 1 - down
    share_x = across if COLUMN == 1 else 1 - across
    return inside, share_y, share_x


@triton.jit
def add_samples(
    acc: tl.tensor, weight: tl.tensor, x: tl.tensor,
    left: tl.tensor, top: tl.tensor, across: tl.tensor, down: tl.tensor, counts: tl.tensor,
    c: tl.tensor, on_c: tl.tensor, H: tl.tensor, W: tl.tensor, xh: tl.tensor, xw: tl.tensor,
    ACC: tl.constexpr, WIDE: tl.constexpr, AXIS: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """The tile acc and `weight` times the samples of x, whose channels lie at c."""
    first = places(left, top, xh, xw, WIDE)
    for row in tl.static_range(2):
        for column in tl.static_range(2):
            inside, share_y, share_x = corner(left, top, across, down, counts, H, W, row, column)
            place = x + of_samples(first + row * xh + column * xw, AXIS) + of_channels(c, AXIS)
            value = tl.load(place, mask=of_samples(inside, AXIS) & of_channels(on_c, AXIS), other=0).to(ACC)
            acc += of_samples(tl.where(inside, weight * (share_y * share_x), 0.0), AXIS) * value
    return acc


@triton.jit
def add_gradients(
    for_value: tl.tensor, for_x: tl.tensor, for_y: tl.tensor, weight: tl.tensor, from_out: tl.tensor,
    x: tl.tensor, grad_x: tl.tensor,
    left: tl.tensor, top: tl.tensor, across: tl.tensor, down: tl.tensor, counts: tl.tensor,
    c: tl.tensor, to_c: tl.tensor, on_c: tl.tensor, H: tl.tensor, W: tl.tensor,
    xh: tl.tensor, xw: tl.tensor, gh: tl.tensor, gw: tl.tensor,
    ACC: tl.constexpr, WIDE: tl.constexpr, TO_X: tl.constexpr, TO_PLACE: tl.constexpr, TO_VALUE: tl.constexpr,
    AXIS: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """What samples and slopes of x give with the tile `from_out`; x's gradient is added up by atomics.

    The tiles `for_value`, `for_x` and `for_y` are returned with that added, channel by channel: summed over all
    channels they are the gradients of a sample's weight and, with `weight`, of its place. Channels of x lie at c,
    those of its gradient at to_c.
    """
    first, to_first = places(left, top, xh, xw, WIDE), places(left, top, gh, gw, WIDE)
    for row in tl.static_range(2):
        for column in tl.static_range(2):
            inside, share_y, share_x = corner(left, top, across, down, counts, H, W, row, column)
            kept = of_samples(inside, AXIS) & of_channels(on_c, AXIS)
            if TO_VALUE or TO_PLACE:
                place = x + of_samples(first + row * xh + column * xw, AXIS) + of_channels(c, AXIS)
                product = tl.load(place, mask=kept, other=0).to(ACC) * from_out
                if TO_VALUE:
                    for_value += of_samples(share_y * share_x, AXIS) * product
                if TO_PLACE:
                    for_x += of_samples(share_y if column == 1 else -share_y, AXIS) * product
                    for_y += of_samples(share_x if row == 1 else -share_x, AXIS) * product
            if TO_X:
                place = grad_x + of_samples(to_first + row * gh + column * gw, AXIS) + of_channels(to_c, AXIS)
                added = of_samples(weight * (share_y * share_x), AXIS) * from_out
                tl.atomic_add(place, added, mask=kept, sem="relaxed")
    return for_value, for_x, for_y


@triton.jit
def gather(
    across: tl.tensor, down: tl.tensor, weights: tl.tensor, grad: tl.tensor, order: tl.tensor, starts: tl.tensor,
    grad_x: tl.tensor,
    H: tl.tensor, W: tl.tensor, Ho: tl.tensor, Wo: tl.tensor, G: tl.tensor, CG: tl.tensor,
    pixels: tl.tensor, blocks: tl.tensor,
    mn: tl.tensor, mh: tl.tensor, mw: tl.tensor, mg: tl.tensor, mc: tl.tensor,
    on: tl.tensor, oh: tl.tensor, ow: tl.tensor, oc: tl.tensor,
    gn: tl.tensor, gh: tl.tensor, gw: tl.tensor, gc: tl.tensor,
    P: tl.constexpr, WEIGHED: tl.constexpr, ACC: tl.constexpr, AXIS: tl.constexpr, BQ: tl.constexpr, BC: tl.constexpr,
) -> None:  # fmt: skip
    """x's gradient without atomics: each pixel of x sums, in a fixed order, the samples of the four cells it bounds.

    `order` (samples,) are the samples sorted by cell, `starts` (cells + 1,) where each cell's begin.
    """
    rest = tl.program_id(0).to(tl.int64)
    pixel = rest // blocks * BQ + tl.arange(0, BQ)  # of (N, G, H, W)
    there = pixel < pixels
    c = rest % blocks * BC + tl.arange(0, BC)
    on_c = c < CG
    x, y, image = pixel % W, pixel // W % H, pixel // W // H
    g = image % G
    acc = tile_of_zeros(BQ, BC, AXIS, ACC)
    for row in tl.static_range(2):
        for column in tl.static_range(2):
            cell = (image * (H + 1) + y + 1 - row) * (W + 1) + x + 1 - column
            start = tl.load(starts + cell, mask=there, other=0)
            count = tl.load(starts + cell + 1, mask=there, other=0) - start
            longest = tl.max(count, 0)
            for i in range(longest):
                more = i < count
                sample = tl.load(order + start + i, mask=more, other=0)
                p = sample % P
                source = sample // P // G
                ox, oy, n = source % Wo, source // Wo % Ho, source // Wo // Ho
                share_x = tl.load(across + sample, mask=more, other=0)
                share_y = tl.load(down + sample, mask=more, other=0)
                share = (share_y if row == 1 else 1 - share_y) * (share_x if column == 1 else 1 - share_x)
                if WEIGHED:
                    place = weights + (n * mn + oy * mh + ox * mw + g * mg + p * mc)
                    share = tl.load(place, mask=more, other=0).to(ACC) * share
                place = grad + of_samples(n * on + oy * oh + ox * ow + g * CG * oc, AXIS) + of_channels(c * oc, AXIS)
                value = tl.load(place, mask=of_samples(more, AXIS) & of_channels(on_c, AXIS), other=0).to(ACC)
                acc += of_samples(tl.where(more, share, 0.0), AXIS) * value
    place = grad_x + of_samples(image // G * gn + y * gh + x * gw + g * CG * gc, AXIS) + of_channels(c * gc, AXIS)
    tl.store(place, acc, mask=of_samples(there, AXIS) & of_channels(on_c, AXIS))
