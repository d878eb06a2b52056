"""CARAFE's core in Triton: the kernels. Imported when the first of them is launched, and not before.

Axes: x (N, C, H, W), out and its gradient (N, C, s*H, s*W), mask (N, g*k*k, H, s, W, s) seen through six strides, which
the pixel-shuffled mask and the encoder's raw logits (N, g*k*k*s*s, H, W) both fit. j numbers the s*s children of a
parent pixel. Tiles are (channels, parents, children); every tensor is read at its own strides, so that one kernel is
native to channels-first and channels-last, and Triton lays its threads along whichever axis is dense.

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
def _unravel(parents: tl.tensor, children: tl.tensor, H: tl.tensor, blocks: tl.tensor) -> tl.tensor:
    """A program's block of parents, of children, row, block of channels and, as 64 bits, what is left."""
    rest = tl.program_id(0)
    parent = rest % parents
    rest = rest // parents
    child = rest % children
    rest = rest // children
    row = rest % H
    rest = rest // H
    return parent, child, row, rest % blocks, (rest // blocks).to(tl.int64)


@triton.jit
def forward(
    x: tl.tensor, mask: tl.tensor, stats: tl.tensor, out: tl.tensor,
    H: tl.tensor, W: tl.tensor, G: tl.tensor, CG: tl.tensor, parents: tl.tensor, children: tl.tensor, blocks: tl.tensor,
    xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor,
    mn: tl.tensor, mt: tl.tensor, mh: tl.tensor, ma: tl.tensor, mw: tl.tensor, mb: tl.tensor,
    on: tl.tensor, oc: tl.tensor, oh: tl.tensor, ow: tl.tensor, plane: tl.tensor,
    K: tl.constexpr, S: tl.constexpr, FUSED: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr,
    BC: tl.constexpr, BW: tl.constexpr, BJ: tl.constexpr,
) -> None:  # fmt: skip
    """out from x and mask: a program takes BW parents of a row, BC channels of a group and BJ children."""
    parent, child, h, block, rest = _unravel(parents, children, H, blocks)
    g, n = rest % G, rest // G
    w, j, c = _lanes(parent, BW, WIDE), _lanes(child, BJ, WIDE), _lanes(block, BC, WIDE)
    on_w, on_j, on_c = w < W, j < S * S, c < CG
    kept = on_w[:, None] & on_j[None, :]
    if WIDE:
        h, mt = h.to(tl.int64), tl.cast(mt, tl.int64)
    x += n * xn + g * CG * xc
    taps = mask + n * mn + g * K * K * mt + (w[:, None] * mw + h * mh + (j // S * ma + j % S * mb)[None, :])
    if FUSED:
        top = tl.full([BW, BJ], float("-inf"), ACC)
        for tap in range(K * K):
            top = tl.maximum(top, tl.load(taps + tap * mt, mask=kept, other=0).to(ACC))
        total = tl.zeros([BW, BJ], ACC)
        for tap in range(K * K):
            total += tl.exp(tl.load(taps + tap * mt, mask=kept, other=0).to(ACC) - top)
        share = 1 / total
        if block == 0:
            place = stats + ((rest * H + h) * W + w[:, None]) * (S * S) + j[None, :]
            tl.store(place, top, mask=kept)
            tl.store(place + plane, share, mask=kept)
    acc = tl.zeros([BC, BW, BJ], ACC)
    for iy in range(tl.maximum(0, K // 2 - h), tl.minimum(K, H - h + K // 2)):
        for ix in range(K):
            column = w + (ix - K // 2)
            inside = on_w & (column >= 0) & (column < W)
            weight = tl.load(taps + (iy * K + ix) * mt, mask=inside[:, None] & on_j[None, :], other=0).to(ACC)
            if FUSED:
                weight = tl.where(inside[:, None] & on_j[None, :], tl.exp(weight - top) * share, 0.0)
            places = x + c[:, None, None] * xc + ((h + iy - K // 2) * xh + column * xw)[None, :, None]
            value = tl.load(places, mask=on_c[:, None, None] & inside[None, :, None], other=0).to(ACC)
            acc += value * weight[None, :, :]
    columns = (h * S + j // S)[None, :] * oh + (w[:, None] * S + (j % S)[None, :]) * ow
    out += n * on + g * CG * oc
    tl.store(out + c[:, None, None] * oc + columns[None, :, :], acc, mask=on_c[:, None, None] & kept[None, :, :])


@triton.jit
def grad_x(
    grad_x: tl.tensor, mask: tl.tensor, stats: tl.tensor, grad: tl.tensor,
    H: tl.tensor, W: tl.tensor, G: tl.tensor, CG: tl.tensor, pixels: tl.tensor, children: tl.tensor, blocks: tl.tensor,
    xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor,
    mn: tl.tensor, mt: tl.tensor, mh: tl.tensor, ma: tl.tensor, mw: tl.tensor, mb: tl.tensor,
    on: tl.tensor, oc: tl.tensor, oh: tl.tensor, ow: tl.tensor, plane: tl.tensor,
    K: tl.constexpr, S: tl.constexpr, FUSED: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr,
    BC: tl.constexpr, BW: tl.constexpr, BJ: tl.constexpr,
) -> None:  # fmt: skip
    """x's gradient: a program owns BW pixels of a row and BC channels, and gathers from k*k parents' s*s children."""
    pixel, _, y, block, rest = _unravel(pixels, 1, H, blocks)
    g, n = rest % G, rest // G
    w, c = _lanes(pixel, BW, WIDE), _lanes(block, BC, WIDE)
    on_w, on_c = w < W, c < CG
    if WIDE:
        y, mt = y.to(tl.int64), tl.cast(mt, tl.int64)
    mask += n * mn + g * K * K * mt
    grad += n * on + g * CG * oc
    acc = tl.zeros([BC, BW, BJ], ACC)
    for iy in range(tl.maximum(0, y + K // 2 - H + 1), tl.minimum(K, y + K // 2 + 1)):
        h = y - iy + K // 2
        for ix in range(K):
            parent = w - ix + K // 2
            inside = on_w & (parent >= 0) & (parent < W)
            for child in range(children):
                j = _lanes(child, BJ, WIDE)
                kept = inside[:, None] & (j < S * S)[None, :]
                places = (iy * K + ix) * mt + h * mh + parent[:, None] * mw + (j // S * ma + j % S * mb)[None, :]
                weight = tl.load(mask + places, mask=kept, other=0).to(ACC)
                if FUSED:
                    place = stats + ((rest * H + h) * W + parent[:, None]) * (S * S) + j[None, :]
                    top = tl.load(place, mask=kept, other=0)
                    weight = tl.where(kept, tl.exp(weight - top) * tl.load(place + plane, mask=kept, other=0), 0.0)
                columns = (h * S + j // S)[None, :] * oh + (parent[:, None] * S + (j % S)[None, :]) * ow
                value = tl.load(
                    grad + c[:, None, None] * oc + columns[None, :, :],
                    mask=on_c[:, None, None] & kept[None, :, :],
                    other=0,
                ).to(ACC)
                acc += value * weight[None, :, :]
    grad_x += n * xn + g * CG * xc
    places = grad_x + c[:, None] * xc + (y * xh + w * xw)[None, :]
    tl.store(places, tl.sum(acc, 2), mask=on_c[:, None] & on_w[None, :])


@triton.jit
def grad_mask(
    x: tl.tensor, mask: tl.tensor, stats: tl.tensor, grad: tl.tensor, sums: tl.tensor, grad_mask: tl.tensor,
    H: tl.tensor, W: tl.tensor, G: tl.tensor, CG: tl.tensor, parents: tl.tensor, children: tl.tensor, blocks: tl.tensor,
    xn: tl.tensor, xc: tl.tensor, xh: tl.tensor, xw: tl.tensor,
    mn: tl.tensor, mt: tl.tensor, mh: tl.tensor, ma: tl.tensor, mw: tl.tensor, mb: tl.tensor,
    on: tl.tensor, oc: tl.tensor, oh: tl.tensor, ow: tl.tensor,
    tn: tl.tensor, tt: tl.tensor, th: tl.tensor, ta: tl.tensor, tw: tl.tensor, tb: tl.tensor, plane: tl.tensor,
    K: tl.constexpr, S: tl.constexpr, FUSED: tl.constexpr, WIDE: tl.constexpr, ACC: tl.constexpr, ONCE: tl.constexpr,
    BC: tl.constexpr, BW: tl.constexpr, BJ: tl.constexpr,
) -> None:  # fmt: skip
    """The mask's gradient: a program reduces all channels of a group for BW parents, BJ children and all taps.

    ONCE: the channels are one block, and out's gradient is read once. FUSED: the gradient of the mask goes to `sums`
    (in ACC, strides of grad_mask) and is read back for the softmax's, whose inner product is summed on the way.
    """
    parent, child, h, _, rest = _unravel(parents, children, H, 1)
    g, n = rest % G, rest // G
    w, j = _lanes(parent, BW, WIDE), _lanes(child, BJ, WIDE)
    on_w, on_j = w < W, j < S * S
    kept = on_w[:, None] & on_j[None, :]
    if WIDE:
        h, mt, tt = h.to(tl.int64), tl.cast(mt, tl.int64), tl.cast(tt, tl.int64)
    x += n * xn + g * CG * xc
    grad += n * on + g * CG * oc
    mask += n * mn + g * K * K * mt
    taps = w[:, None] * mw + h * mh + (j // S * ma + j % S * mb)[None, :]
    out = n * tn + g * K * K * tt + (w[:, None] * tw + h * th + (j // S * ta + j % S * tb)[None, :])
    columns = (h * S + j // S)[None, :] * oh + (w[:, None] * S + (j % S)[None, :]) * ow
    if ONCE:
        c = _lanes(0, BC, WIDE)
        read = grad + c[:, None, None] * oc + columns[None, :, :]
        once = tl.load(read, mask=(c < CG)[:, None, None] & kept[None, :, :], other=0).to(ACC)
    if FUSED:
        place = stats + ((rest * H + h) * W + w[:, None]) * (S * S) + j[None, :]
        top = tl.load(place, mask=kept, other=0)
        share = tl.load(place + plane, mask=kept, other=0)
        inner = tl.zeros([BW, BJ], ACC)
    for tap in range(K * K):
        y = h + tap // K - K // 2
        column = w + (tap % K - K // 2)
        inside = on_w & (column >= 0) & (column < W) & (y >= 0) & (y < H)
        if ONCE:
            places = x + c[:, None, None] * xc + (y * xh + column * xw)[None, :, None]
            value = tl.load(places, mask=(c < CG)[:, None, None] & inside[None, :, None], other=0).to(ACC)
            total = tl.sum(once * value, 0)
        else:
            acc = tl.zeros([BC, BW, BJ], ACC)
            for block in range(blocks):
                c = _lanes(block, BC, WIDE)
                places = x + c[:, None, None] * xc + (y * xh + column * xw)[None, :, None]
                value = tl.load(places, mask=(c < CG)[:, None, None] & inside[None, :, None], other=0).to(ACC)
                read = grad + c[:, None, None] * oc + columns[None, :, :]
                from_out = tl.load(read, mask=(c < CG)[:, None, None] & kept[None, :, :], other=0).to(ACC)
                acc += from_out * value
            total = tl.sum(acc, 0)
        # Zero times an infinite gradient would be NaN.
        total = tl.where(inside[:, None], total, 0.0)
        tl.store(sums + out + tap * tt, total, mask=kept)
        if FUSED:
            weight = tl.exp(tl.load(mask + taps + tap * mt, mask=kept, other=0).to(ACC) - top) * share
            inner += weight * total
    if FUSED:
        tl.debug_barrier()  # other threads of this program may have written what a thread reads
        for tap in range(K * K):
            weight = tl.exp(tl.load(mask + taps + tap * mt, mask=kept, other=0).to(ACC) - top) * share
            total = tl.load(sums + out + tap * tt, mask=kept, other=0)
            tl.store(grad_mask + out + tap * tt, weight * (total - inner), mask=kept)
