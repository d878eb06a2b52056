"""CARAFE's core in Triton: the kernels. Imported when the first of them is launched, and not before.

Axes: x (N, C, H, W), out and its gradient (N, C, s*H, s*W), mask (N, g*k*k, H, s, W, s) seen through six strides, which
the pixel-shuffled mask and the encoder's raw logits (N, g*k*k*s*s, H, W) both fit. j numbers the s*s children of a
parent pixel. Tiles are (channels, parents, children), the parents BH rows of BW; every tensor is read at its own
strides, so that one kernel is native to channels-first and channels-last, and Triton lays its threads along whichever
axis is dense.

A program takes `steps` blocks of channels one after the other: what it reads of the mask is read from memory once for
all of them. The order in which a sum is added up depends neither on the tile nor on the steps, but for grad_mask's over
channels.

FUSED kernels take logits and apply the softmax over the k*k taps themselves; `stats` (2, N, g, H, W, s*s) holds its
maxima and reciprocal sums. WIDE ones index within an image by 64 bits; across images all do. Sums are in ACC.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _lanes(start: tl.tensor, BLOCK: tl.constexpr, WIDE: tl.constexpr) -> tl.tensor:
    """start, start + 1, ...: as 64 bit numbers where offsets within an image need them."""
    lanes = start * BLOCK + tl.arange(0, BLOCK)
    if WIDE:
        lanes = lanes.to(tl.int64)
    return lanes


@triton.jit
def _unravel(
    columns: tl.tensor, tiles: tl.tensor, children: tl.tensor, shares: tl.tensor, H: tl.tensor, W: tl.tensor,
    BH: tl.constexpr, BW: tl.constexpr, WIDE: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Rows and columns of a program's pixels, which of them there are, its children, share and, as 64 bits, the rest.

    Neighbouring tiles come one after the other, so that what they both read is still in the L2.
    """
    rest = tl.program_id(0)
    tile = rest % tiles
    rest = rest // tiles
    child = rest % children
    rest = rest // children
    number = tl.arange(0, BH * BW)
    h, w = tile // columns * BH + number // BW, tile % columns * BW + number % BW
    there = (h < H) & (w < W)
    if WIDE:
        h, w = h.to(tl.int64), w.to(tl.int64)
    return h, w, there, child, rest % shares, (rest // shares).to(tl.int64)


@triton.jit
def forward(
    x: tl.tensor, mask: tl.tensor, stats: tl.tensor, out: tl.tensor,
    H: tl.tensor, W: tl.tensor, G: tl.tensor, CG: tl.tensor,
    columns: tl.tensor, tiles: tl.tensor, children: tl.tensor, shares: tl.tensor, steps: tl.tensor,
    xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor,
    mn: tl.tensor, mt: tl.tensor, mh: tl.tensor, ma: tl.tensor, mw: tl.tensor, mb: tl.tensor,
    on: tl.tensor, oc: tl.tensor, oh: tl.tensor, ow: tl.tensor, plane: tl.tensor,
    K: tl.constexpr, S: tl.constexpr, FUSED: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr, WHOLE: tl.constexpr,
    BC: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr, BJ: tl.constexpr,
) -> None:  # fmt: skip
    """out from x and mask: a program takes BH x BW parents, BJ children and `steps` times BC channels of a group.

    WHOLE: out's rows are dense, and the tile holds all s x s children: it is laid out as rows of out to be stored.
    """
    h, w, there, child, share, rest = _unravel(columns, tiles, children, shares, H, W, BH, BW, WIDE)
    g, n = rest % G, rest // G
    j = _lanes(child, BJ, WIDE)
    on_j = j < S * S
    kept = there[:, None] & on_j[None, :]
    if WIDE:
        mt, xh, xw = tl.cast(mt, tl.int64), tl.cast(xh, tl.int64), tl.cast(xw, tl.int64)
    taps = mask + n * mn + g * K * K * mt + ((h * mh + w * mw)[:, None] + (j // S * ma + j % S * mb)[None, :])
    if FUSED:
        top = tl.full([BH * BW, BJ], float("-inf"), ACC)
        for tap in range(K * K):
            top = tl.maximum(top, tl.load(taps + tap * mt, mask=kept, other=0).to(ACC))
        total = tl.zeros([BH * BW, BJ], ACC)
        for tap in range(K * K):
            total += tl.exp(tl.load(taps + tap * mt, mask=kept, other=0).to(ACC) - top)
        even = 1 / total
        if share == 0:
            place = stats + ((rest * H + h[:, None]) * W + w[:, None]) * (S * S) + j[None, :]
            tl.store(place, top, mask=kept)
            tl.store(place + plane, even, mask=kept)
    x += n * xn + g * CG * xc
    out += n * on + g * CG * oc
    for step in range(steps):
        c = _lanes(share * steps + step, BC, WIDE)
        on_c = c < CG
        first = x + (c * xc)[:, None, None] + (h * xh + w * xw)[None, :, None]
        acc = tl.zeros([BC, BH * BW, BJ], ACC)
        for iy in range(K):
            y = h + (iy - K // 2)
            in_rows = there & (y >= 0) & (y < H)
            for ix in range(K):
                column = w + (ix - K // 2)
                inside = in_rows & (column >= 0) & (column < W)
                weight = tl.load(taps + (iy * K + ix) * mt, mask=inside[:, None] & on_j[None, :], other=0).to(ACC)
                if FUSED:
                    weight = tl.where(inside[:, None] & on_j[None, :], tl.exp(weight - top) * even, 0.0)
                places = first + ((iy - K // 2) * xh + (ix - K // 2) * xw)
                value = tl.load(places, mask=on_c[:, None, None] & inside[None, :, None], other=0).to(ACC)
                acc += value * weight[None, :, :]
        if WHOLE:
            rows = tl.permute(tl.reshape(acc, [BC, BH, BW, S, S]), (0, 1, 3, 2, 4))
            rows = tl.reshape(rows.to(out.dtype.element_ty), [BC, BH * BW * S * S])
            number = tl.arange(0, BH * BW * S * S)
            tile = tl.program_id(0) % tiles
            row = tile // columns * (BH * S) + number // (BW * S)
            column = tile % columns * (BW * S) + number % (BW * S)
            on_out = (row < H * S) & (column < W * S)
            if WIDE:
                row = row.to(tl.int64)
            to = out + (c * oc)[:, None] + (row * oh + column)[None, :]
            tl.store(to, rows, mask=on_c[:, None] & on_out[None, :])
        else:
            pixels = (h[:, None] * S + (j // S)[None, :]) * oh + (w[:, None] * S + (j % S)[None, :]) * ow
            to = out + (c * oc)[:, None, None] + pixels[None, :, :]
            tl.store(to, acc, mask=on_c[:, None, None] & kept[None, :, :])


@triton.jit
def grad_x(
    grad_x: tl.tensor, mask: tl.tensor, stats: tl.tensor, grad: tl.tensor,
    H: tl.tensor, W: tl.tensor, G: tl.tensor, CG: tl.tensor,
    columns: tl.tensor, tiles: tl.tensor, children: tl.tensor, shares: tl.tensor, steps: tl.tensor,
    xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor,
    mn: tl.tensor, mt: tl.tensor, mh: tl.tensor, ma: tl.tensor, mw: tl.tensor, mb: tl.tensor,
    on: tl.tensor, oc: tl.tensor, oh: tl.tensor, ow: tl.tensor, plane: tl.tensor,
    K: tl.constexpr, S: tl.constexpr, FUSED: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr,
    BC: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr, BJ: tl.constexpr,
) -> None:  # fmt: skip
    """x's gradient: a program owns BH x BW pixels and `steps` times BC channels, and gathers from k*k parents."""
    y, w, there, _, share, rest = _unravel(columns, tiles, 1, shares, H, W, BH, BW, WIDE)
    g, n = rest % G, rest // G
    if WIDE:
        mt = tl.cast(mt, tl.int64)
    mask += n * mn + g * K * K * mt
    grad += n * on + g * CG * oc
    grad_x += n * xn + g * CG * xc
    for step in range(steps):
        c = _lanes(share * steps + step, BC, WIDE)
        on_c = c < CG
        acc = tl.zeros([BC, BH * BW, BJ], ACC)
        for iy in range(K):
            h = y - (iy - K // 2)
            in_rows = there & (h >= 0) & (h < H)
            for ix in range(K):
                parent = w - (ix - K // 2)
                inside = in_rows & (parent >= 0) & (parent < W)
                for child in range(children):
                    j = _lanes(child, BJ, WIDE)
                    kept = inside[:, None] & (j < S * S)[None, :]
                    place = (h * mh + parent * mw)[:, None] + (j // S * ma + j % S * mb)[None, :]
                    weight = tl.load(mask + (iy * K + ix) * mt + place, mask=kept, other=0).to(ACC)
                    if FUSED:
                        kept_in = stats + ((rest * H + h) * W + parent)[:, None] * (S * S) + j[None, :]
                        top = tl.load(kept_in, mask=kept, other=0)
                        even = tl.load(kept_in + plane, mask=kept, other=0)
                        weight = tl.where(kept, tl.exp(weight - top) * even, 0.0)
                    pixels = (h[:, None] * S + (j // S)[None, :]) * oh + (parent[:, None] * S + (j % S)[None, :]) * ow
                    value = tl.load(
                        grad + (c * oc)[:, None, None] + pixels[None, :, :],
                        mask=on_c[:, None, None] & kept[None, :, :],
                        other=0,
                    ).to(ACC)
                    acc += value * weight[None, :, :]
        to = grad_x + (c * xc)[:, None] + (y * xh + w * xw)[None, :]
        tl.store(to, tl.sum(acc, 2), mask=on_c[:, None] & there[None, :])


@triton.jit
def grad_mask(
    x: tl.tensor, mask: tl.tensor, stats: tl.tensor, grad: tl.tensor, sums: tl.tensor, grad_mask: tl.tensor,
    H: tl.tensor, W: tl.tensor, G: tl.tensor, CG: tl.tensor,
    columns: tl.tensor, tiles: tl.tensor, children: tl.tensor, shares: tl.tensor, steps: tl.tensor,
    xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor,
    mn: tl.tensor, mt: tl.tensor, mh: tl.tensor, ma: tl.tensor, mw: tl.tensor, mb: tl.tensor,
    on: tl.tensor, oc: tl.tensor, oh: tl.tensor, ow: tl.tensor,
    tn: tl.tensor, tt: tl.tensor, th: tl.tensor, ta: tl.tensor, tw: tl.tensor, tb: tl.tensor, plane: tl.tensor,
    K: tl.constexpr, S: tl.constexpr, FUSED: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr, ONCE: tl.constexpr,
    BC: tl.constexpr, BH: tl.constexpr, BW: tl.constexpr, BJ: tl.constexpr,
) -> None:  # fmt: skip
    """The mask's gradient: a program reduces all channels of a group for BH x BW parents, BJ children and all taps.

    ONCE: the channels are one block, and out's gradient is read once. FUSED: the gradient of the mask goes to `sums`
    (in ACC, strides of grad_mask) and is read back for the softmax's, whose inner product is summed on the way.
    """
    h, w, there, child, _, rest = _unravel(columns, tiles, children, shares, H, W, BH, BW, WIDE)
    g, n = rest % G, rest // G
    j = _lanes(child, BJ, WIDE)
    on_j = j < S * S
    kept = there[:, None] & on_j[None, :]
    if WIDE:
        mt, tt = tl.cast(mt, tl.int64), tl.cast(tt, tl.int64)
    x += n * xn + g * CG * xc
    grad += n * on + g * CG * oc
    mask += n * mn + g * K * K * mt
    taps = (h * mh + w * mw)[:, None] + (j // S * ma + j % S * mb)[None, :]
    out = n * tn + g * K * K * tt + ((h * th + w * tw)[:, None] + (j // S * ta + j % S * tb)[None, :])
    pixels = (h[:, None] * S + (j // S)[None, :]) * oh + (w[:, None] * S + (j % S)[None, :]) * ow
    if ONCE:
        c = _lanes(0, BC, WIDE)
        read = grad + (c * oc)[:, None, None] + pixels[None, :, :]
        once = tl.load(read, mask=(c < CG)[:, None, None] & kept[None, :, :], other=0).to(ACC)
    if FUSED:
        place = stats + ((rest * H + h[:, None]) * W + w[:, None]) * (S * S) + j[None, :]
        top = tl.load(place, mask=kept, other=0)
        even = tl.load(place + plane, mask=kept, other=0)
        inner = tl.zeros([BH * BW, BJ], ACC)
    for tap in range(K * K):
        y, column = h + (tap // K - K // 2), w + (tap % K - K // 2)
        inside = there & (column >= 0) & (column < W) & (y >= 0) & (y < H)
        if ONCE:
            places = x + (c * xc)[:, None, None] + (y * xh + column * xw)[None, :, None]
            value = tl.load(places, mask=(c < CG)[:, None, None] & inside[None, :, None], other=0).to(ACC)
            total = tl.sum(once * value, 0)
        else:
            acc = tl.zeros([BC, BH * BW, BJ], ACC)
            for step in range(steps):
                c = _lanes(step, BC, WIDE)
                places = x + (c * xc)[:, None, None] + (y * xh + column * xw)[None, :, None]
                value = tl.load(places, mask=(c < CG)[:, None, None] & inside[None, :, None], other=0).to(ACC)
                read = grad + (c * oc)[:, None, None] + pixels[None, :, :]
                from_out = tl.load(read, mask=(c < CG)[:, None, None] & kept[None, :, :], other=0).to(ACC)
                acc += from_out * value
            total = tl.sum(acc, 0)
        # Zero times an infinite gradient would be NaN.
        total = tl.where(inside[:, None], total, 0.0)
        tl.store(sums + out + tap * tt, total, mask=kept)
        if FUSED:
            weight = tl.exp(tl.load(mask + taps + tap * mt, mask=kept, other=0).to(ACC) - top) * even
            inner += weight * total
    if FUSED:
        tl.debug_barrier()  # other threads of this program may have written what a thread reads
        for tap in range(K * K):
            weight = tl.exp(tl.load(mask + taps + tap * mt, mask=kept, other=0).to(ACC) - top) * even
            total = tl.load(sums + out + tap * tt, mask=kept, other=0)
            tl.store(grad_mask + out + tap * tt, weight * (total - inner), mask=kept)
