"""Sampling around a window in Triton, as DCNv3 and DCNv4 do: the kernels. Imported when the first of them is launched.

Axes: x (N, H, W, C), offset (N, Ho, Wo, G, P*2), mask (N, Ho, Wo, G, P), out (N, Ho, Wo, C); P sampling points. One
point of one group at one output pixel is a *sample*; it reads four *corners* (`bilinear_kernels`). A tile is (output
pixels, channels of a group). Offset and mask are read at their own strides, so that they may be parts of one tensor.

Locations are never formed: an output pixel's window begins at a whole pixel, so only the displacement within the window
is rounded, the same at every place of the image. A displacement that is not a number or beyond 2**29 is nowhere near
an image and doesn't count; nor does a sample outside (-1, W) x (-1, H). The mask is folded into the corners' weights,
and a corner outside the image has weight 0 and is not read.

FUSED kernels take logits and apply the softmax over the P points themselves. WIDE ones index within an image by 64
bits; across images all do. Locations, weights and sums are in ACC.
"""

from __future__ import annotations

import triton
import triton.language as tl

from opbench.kernels.triton.bilinear_kernels import add_gradients, add_samples, tile_pixels


@triton.jit
def _pair(place: tl.tensor, p: tl.tensor, on: tl.tensor) -> tl.tensor:
    """Both numbers of pair p by one access: two of 16 or 32 bits, read as one integer of twice as many."""
    if place.dtype.element_ty.primitive_bitwidth == 16:
        both = tl.load(place.to(tl.pointer_type(tl.int32), bitcast=True) + p, mask=on, other=0)
        first = both.to(tl.int16).to(place.dtype.element_ty, bitcast=True)
        second = (both >> 16).to(tl.int16).to(place.dtype.element_ty, bitcast=True)
    else:
        both = tl.load(place.to(tl.pointer_type(tl.int64), bitcast=True) + p, mask=on, other=0)
        first = both.to(tl.int32).to(place.dtype.element_ty, bitcast=True)
        second = (both >> 32).to(tl.int32).to(place.dtype.element_ty, bitcast=True)
    return first, second


@triton.jit
def _locate(
    place: tl.tensor, fc: tl.tensor, p: tl.tensor, on: tl.tensor,
    base_x: tl.tensor, base_y: tl.tensor, H: tl.tensor, W: tl.tensor,
    K: tl.constexpr, DILATION: tl.constexpr, SCALE: tl.constexpr, CENTRE: tl.constexpr, PAIRS: tl.constexpr,
    ACC: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Samples' upper left corners (x, y), how far they lie beyond these, and whether they count.

    PAIRS: an offset's two numbers are neighbours, at a multiple of their size together.
    """
    at = p
    if CENTRE:  # there is none
        at = p + tl.where(p >= K * K // 2, 1, 0)
    if PAIRS:
        move_x, move_y = _pair(place, p, on)
        move_x, move_y = move_x.to(ACC), move_y.to(ACC)
    else:
        move_x = tl.load(place + 2 * p * fc, mask=on, other=0).to(ACC)
        move_y = tl.load(place + (2 * p + 1) * fc, mask=on, other=0).to(ACC)
    move_x = (at // K * DILATION - DILATION * (K - 1) // 2 + move_x) * SCALE
    move_y = (at % K * DILATION - DILATION * (K - 1) // 2 + move_y) * SCALE
    # Comparisons with a NaN are false; converting what isn't near to an integer would be undefined.
    near = on & (move_x > -536870912.0) & (move_x < 536870912.0) & (move_y > -536870912.0) & (move_y < 536870912.0)
    move_x, move_y = tl.where(near, move_x, 0.0), tl.where(near, move_y, 0.0)
    whole_x, whole_y = tl.floor(move_x), tl.floor(move_y)
    beyond_x, beyond_y = move_x - whole_x, move_y - whole_y
    left, top = base_x + whole_x.to(tl.int32), base_y + whole_y.to(tl.int32)
    counts = near & (left < W) & ((left >= 0) | ((left == -1) & (beyond_x > 0)))
    counts = counts & (top < H) & ((top >= 0) | ((top == -1) & (beyond_y > 0)))
    return left, top, beyond_x, beyond_y, counts


@triton.jit
def _softmax(
    logits: tl.tensor, mc: tl.tensor, on: tl.tensor, P: tl.constexpr, PIXELS: tl.constexpr, ACC: tl.constexpr
) -> tl.tensor:
    """Maxima and reciprocal sums over the P points of each of so many output pixels.

    Point by point: a tile of pixels and points would be shared among threads otherwise than the kernels' tiles are,
    and each weight made of it would have to change hands.
    """
    most = tl.full([PIXELS], float("-inf"), ACC)
    for p in tl.static_range(P):
        most = tl.maximum(most, tl.load(logits + p * mc, mask=on, other=0).to(ACC))
    total = tl.zeros([PIXELS], ACC)
    for p in tl.static_range(P):
        total += tl.exp(tl.load(logits + p * mc, mask=on, other=0).to(ACC) - most)
    return most, 1 / total


@triton.jit
def forward(
    x: tl.tensor, offset: tl.tensor, mask: tl.tensor, out: tl.tensor,
    H: tl.tensor, W: tl.tensor, Ho: tl.tensor, Wo: tl.tensor, G: tl.tensor, CG: tl.tensor,
    columns: tl.tensor, tiles: tl.tensor, blocks: tl.tensor, shares: tl.tensor, steps: tl.tensor,
    xn: tl.tensor, xh: tl.tensor, xw: tl.tensor, xc: tl.tensor,
    fn: tl.tensor, fh: tl.tensor, fw: tl.tensor, fg: tl.tensor, fc: tl.tensor,
    mn: tl.tensor, mh: tl.tensor, mw: tl.tensor, mg: tl.tensor, mc: tl.tensor,
    on: tl.tensor, oh: tl.tensor, ow: tl.tensor, oc: tl.tensor,
    K: tl.constexpr, P: tl.constexpr, STRIDE: tl.constexpr, ORIGIN: tl.constexpr, DILATION: tl.constexpr,
    SCALE: tl.constexpr, CENTRE: tl.constexpr, PAIRS: tl.constexpr, FUSED: tl.constexpr,
    WIDE: tl.constexpr, ACC: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr, BC: tl.constexpr,
) -> None:  # fmt: skip
    """out: a program takes a tile of output pixels, and of all groups' blocks of BC channels `steps`.

    The offsets and masks of a pixel's groups lie side by side: a program that takes several groups reads the bytes
    that they share once from memory.
    """
    rest = tl.program_id(0)
    share = rest % shares
    rest = rest // shares
    n = (rest // tiles).to(tl.int64)
    oy, ox, there = tile_pixels(rest % tiles, columns, Ho, Wo, BH, BW)
    base_y, base_x = oy * STRIDE + ORIGIN, ox * STRIDE + ORIGIN
    if WIDE:
        oy, ox = oy.to(tl.int64), ox.to(tl.int64)
        fc, mc = tl.cast(fc, tl.int64), tl.cast(mc, tl.int64)
    for step in range(steps):
        unit = share * steps + step
        g = (unit // blocks).to(tl.int64)
        c = unit % blocks * BC + tl.arange(0, BC)
        on_c = c < CG
        if WIDE:
            c = c.to(tl.int64)
        image = x + n * xn + g * CG * xc
        place = offset + n * fn + g * fg + (oy * fh + ox * fw)
        weights = mask + n * mn + g * mg + (oy * mh + ox * mw)
        if FUSED:
            most, even = _softmax(weights, mc, there, P, BH * BW, ACC)
        acc = tl.zeros([BH * BW, BC], ACC)
        for p in range(P):
            left, top, fx, fy, counts = _locate(
                place, fc, p, there, base_x, base_y, H, W, K, DILATION, SCALE, CENTRE, PAIRS, ACC
            )
            weight = tl.load(weights + p * mc, mask=counts, other=0).to(ACC)
            if FUSED:
                weight = tl.where(counts, tl.exp(weight - most) * even, 0.0)
            acc = add_samples(acc, weight, image, left, top, fx, fy, counts, c * xc, on_c, H, W, xh, xw, ACC, WIDE, 1)
        places = out + n * on + g * CG * oc + (oy * oh + ox * ow)[:, None] + (c * oc)[None, :]
        tl.store(places, acc, mask=there[:, None] & on_c[None, :])


@triton.jit
def backward(
    x: tl.tensor, offset: tl.tensor, mask: tl.tensor, grad: tl.tensor,
    grad_x: tl.tensor, grad_offset: tl.tensor, sums: tl.tensor, grad_mask: tl.tensor,
    H: tl.tensor, W: tl.tensor, Ho: tl.tensor, Wo: tl.tensor, G: tl.tensor, CG: tl.tensor,
    columns: tl.tensor, tiles: tl.tensor, blocks: tl.tensor,
    xn: tl.tensor, xh: tl.tensor, xw: tl.tensor, xc: tl.tensor,
    fn: tl.tensor, fh: tl.tensor, fw: tl.tensor, fg: tl.tensor, fc: tl.tensor,
    mn: tl.tensor, mh: tl.tensor, mw: tl.tensor, mg: tl.tensor, mc: tl.tensor,
    on: tl.tensor, oh: tl.tensor, ow: tl.tensor, oc: tl.tensor,
    fp: tl.tensor, fs: tl.tensor, mp: tl.tensor, ms: tl.tensor, sp: tl.tensor, ss: tl.tensor,
    K: tl.constexpr, P: tl.constexpr, STRIDE: tl.constexpr, ORIGIN: tl.constexpr, DILATION: tl.constexpr,
    SCALE: tl.constexpr, CENTRE: tl.constexpr, PAIRS: tl.constexpr, FUSED: tl.constexpr,
    WIDE: tl.constexpr, ACC: tl.constexpr, TO_X: tl.constexpr, TO_OFFSET: tl.constexpr, TO_MASK: tl.constexpr,
    BH: tl.constexpr, BW: tl.constexpr, BC: tl.constexpr,
) -> None:  # fmt: skip
    """Gradients: those of offset and mask reduce all channels of a group in the program, x's is added up by atomics.

    `grad_x` is contiguous, in ACC, and begins as zeros. From one output pixel to the next are fp numbers of offset's
    gradient, mp of the mask's and sp of `sums`; from group to group fs, ms and ss; those of a group are dense. FUSED:
    the gradient of the mask goes to `sums` (in ACC) and is read back for the softmax's, whose inner product is summed
    on the way.
    """
    rest = tl.program_id(0)
    g = (rest % G).to(tl.int64)
    rest = rest // G
    n = (rest // tiles).to(tl.int64)
    oy, ox, there = tile_pixels(rest % tiles, columns, Ho, Wo, BH, BW)
    base_y, base_x = oy * STRIDE + ORIGIN, ox * STRIDE + ORIGIN
    pixel = (n * Ho + oy) * Wo + ox
    to_offset, to_mask = grad_offset + pixel * fp + g * fs, grad_mask + pixel * mp + g * ms
    to_sum = sums + pixel * sp + g * ss
    if WIDE:
        oy, ox = oy.to(tl.int64), ox.to(tl.int64)
        fc, mc = tl.cast(fc, tl.int64), tl.cast(mc, tl.int64)
    x += n * xn + g * CG * xc
    grad += n * on + g * CG * oc
    grad_x += (n * H * W * G + g) * CG
    place = offset + n * fn + g * fg + (oy * fh + ox * fw)
    weights = mask + n * mn + g * mg + (oy * mh + ox * mw)
    if FUSED:
        most, share = _softmax(weights, mc, there, P, BH * BW, ACC)
        inner = tl.zeros([BH * BW], ACC)
    for p in range(P):
        left, top, fx, fy, counts = _locate(
            place, fc, p, there, base_x, base_y, H, W, K, DILATION, SCALE, CENTRE, PAIRS, ACC
        )
        weight = tl.load(weights + p * mc, mask=there, other=0).to(ACC)
        if FUSED:
            weight = tl.exp(weight - most) * share
        for_mask = tl.zeros([BH * BW, BC], ACC)
        for_x = tl.zeros([BH * BW, BC], ACC)
        for_y = tl.zeros([BH * BW, BC], ACC)
        for block in range(blocks):
            c = block * BC + tl.arange(0, BC)
            on_c = c < CG
            if WIDE:
                c = c.to(tl.int64)
            places = grad + (oy * oh + ox * ow)[:, None] + (c * oc)[None, :]
            from_out = tl.load(places, mask=counts[:, None] & on_c[None, :], other=0).to(ACC)
            for_mask, for_x, for_y = add_gradients(
                for_mask, for_x, for_y, weight, from_out, x, grad_x, left, top, fx, fy, counts, c * xc, c, on_c, H, W,
                xh, xw, W * G * CG, G * CG, ACC, WIDE, TO_X, TO_OFFSET, TO_MASK, 1,
            )  # fmt: skip
        if TO_OFFSET:
            moved_x = tl.where(counts, tl.sum(for_x, 1) * weight * SCALE, 0.0)
            moved_y = tl.where(counts, tl.sum(for_y, 1) * weight * SCALE, 0.0)
            tl.store(to_offset + 2 * p, moved_x, mask=there)
            tl.store(to_offset + 2 * p + 1, moved_y, mask=there)
        if TO_MASK:
            total = tl.where(counts, tl.sum(for_mask, 1), 0.0)
            tl.store(to_sum + p, total, mask=there)
            if FUSED:
                inner += weight * total
    if FUSED and TO_MASK:
        tl.debug_barrier()  # other threads of this program have written what a thread reads
        for p in range(P):
            weight = tl.exp(tl.load(weights + p * mc, mask=there, other=0).to(ACC) - most) * share
            total = tl.load(to_sum + p, mask=there, other=0)
            tl.store(to_mask + p, weight * (total - inner), mask=there)


@triton.jit
def cells(
    offset: tl.tensor, keys: tl.tensor, across: tl.tensor, down: tl.tensor,
    H: tl.tensor, W: tl.tensor, Ho: tl.tensor, Wo: tl.tensor, G: tl.tensor, samples: tl.tensor, nowhere: tl.tensor,
    fn: tl.tensor, fh: tl.tensor, fw: tl.tensor, fg: tl.tensor, fc: tl.tensor,
    K: tl.constexpr, P: tl.constexpr, STRIDE: tl.constexpr, ORIGIN: tl.constexpr, DILATION: tl.constexpr,
    SCALE: tl.constexpr, CENTRE: tl.constexpr, PAIRS: tl.constexpr, ACC: tl.constexpr, B: tl.constexpr,
) -> None:  # fmt: skip
    """For every sample the cell that it falls into, (N, G, H + 1, W + 1), or `nowhere`, and where in that it lies."""
    sample = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    there = sample < samples
    p = sample % P
    g = sample // P % G
    pixel = sample // P // G
    ox, oy, n = pixel % Wo, pixel // Wo % Ho, pixel // Wo // Ho
    place = offset + (n * fn + oy * fh + ox * fw + g * fg)
    base_x, base_y = (ox * STRIDE + ORIGIN).to(tl.int32), (oy * STRIDE + ORIGIN).to(tl.int32)
    left, top, fx, fy, counts = _locate(
        place, fc, p, there, base_x, base_y, H, W, K, DILATION, SCALE, CENTRE, PAIRS, ACC
    )
    cell = ((n * G + g) * (H + 1) + top + 1) * (W + 1) + left + 1
    tl.store(keys + sample, tl.where(counts, cell, nowhere), mask=there)
    tl.store(across + sample, fx, mask=there)
    tl.store(down + sample, fy, mask=there)
