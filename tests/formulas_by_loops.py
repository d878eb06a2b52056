"""The formulas of definitions read aloud, one scalar at a time: what the definitions over whole images are held to."""

import math

import torch


def reassembly_by_loops(x, mask, *, kernel_size, group_size, scale_factor):
    """CARAFE's reassembly, element by element: for shapes of a few hundred elements."""
    N, C, H, W = x.shape
    k, g, s = kernel_size, group_size, scale_factor
    out = torch.zeros(N, C, s * H, s * W, dtype=x.dtype)
    for n in range(N):
        for c in range(C):
            group = c // (C // g)
            for Y in range(s * H):
                for X in range(s * W):
                    for iy in range(k):
                        for ix in range(k):
                            y = Y // s + iy - k // 2
                            x_ = X // s + ix - k // 2
                            if 0 <= y < H and 0 <= x_ < W:
                                out[n, c, Y, X] += x[n, c, y, x_] * mask[n, (group * k + iy) * k + ix, Y, X]
    return out


def downsampling_by_loops(x, mask, *, kernel_size, group_size, stride):
    """CARAFE++'s reassembly at a stride, element by element: for shapes of a few hundred elements."""
    N, C, H, W = x.shape
    k, g = kernel_size, group_size
    rows, columns = mask.shape[2:]
    out = torch.zeros(N, C, rows, columns, dtype=x.dtype)
    for n in range(N):
        for c in range(C):
            group = c // (C // g)
            for Y in range(rows):
                for X in range(columns):
                    for iy in range(k):
                        for ix in range(k):
                            y, x_ = stride * Y + iy - k // 2, stride * X + ix - k // 2
                            if 0 <= y < H and 0 <= x_ < W:
                                out[n, c, Y, X] += x[n, c, y, x_] * mask[n, (group * k + iy) * k + ix, Y, X]
    return out


def dcnv3_by_loops(
    x, offset, mask, *, kernel_size, stride, pad, dilation, group, offset_scale=1.0, remove_center=False
):
    """DCNv3's sampling, without gradients: for tiny shapes."""
    batch, height, width, channels = x.shape
    out_height = (height + 2 * pad - (dilation * (kernel_size - 1) + 1)) // stride + 1
    out_width = (width + 2 * pad - (dilation * (kernel_size - 1) + 1)) // stride + 1
    half = (dilation * (kernel_size - 1)) >> 1
    points = [(i, j) for i in range(kernel_size) for j in range(kernel_size)]
    if remove_center:
        del points[len(points) // 2]
    out = torch.zeros(batch, out_height, out_width, channels, dtype=x.dtype)
    for n in range(batch):
        for v in range(out_height):
            for u in range(out_width):
                for c in range(channels):
                    g = c // (channels // group)
                    for p, (i, j) in enumerate(points):
                        at = 2 * (g * len(points) + p)
                        off_x, off_y = offset[n, v, u, at].item(), offset[n, v, u, at + 1].item()
                        weight = mask[n, v, u, g * len(points) + p].item()
                        at_x = u * stride - pad + half + (i * dilation - half + off_x) * offset_scale
                        at_y = v * stride - pad + half + (j * dilation - half + off_y) * offset_scale
                        if -1 < at_x < width and -1 < at_y < height:
                            out[n, v, u, c] += weight * _sample(x[n, :, :, c], at_x, at_y)
    return out


def _sample(image, x, y):
    height, width = image.shape
    left, top = math.floor(x), math.floor(y)
    total = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < height and 0 <= column < width:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[row, column].item()
    return total
