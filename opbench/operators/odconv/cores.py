"""How ODConv convolves each image with a kernel of its own: one function and one entry of `CORES` each.

Every core takes (x, weight, kernel, spatial, *, stride, padding, dilation, groups): x (N, C, H, W), already under its
channel attention; weight (K, O, C / groups, k, k); kernel (N, K), how much each of the K kernels counts for each image;
spatial (N, k*k), how much each tap -> (N, O, Ho, Wo), which the filter attention then weighs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.operators.common.choice import CoreTable
from opbench.schema import Implementation


def kernels(weight: Tensor, kernel: Tensor, spatial: Tensor) -> Tensor:
    """(N, O, C / groups, k, k): each image's own, the sum over K as one matrix product."""
    k = weight.shape[3]
    summed: Tensor = (kernel @ weight.flatten(1)).unflatten(1, weight.shape[1:])
    return summed * spatial.view(-1, 1, 1, k, k)


def grouped(
    x: Tensor, weight: Tensor, kernel: Tensor, spatial: Tensor, *, stride: int, padding: int, dilation: int, groups: int
) -> Tensor:
    """As published: all images as groups of one convolution. An export is for the number of images it was made with."""
    batch = x.shape[0]
    own = kernels(weight, kernel, spatial)
    out = F.conv2d(x.flatten(0, 1)[None], own.flatten(0, 1), None, stride, padding, dilation, groups * batch)
    return out.view(batch, own.shape[1], *out.shape[2:])


def by_taps(
    x: Tensor, weight: Tensor, kernel: Tensor, spatial: Tensor, *, stride: int, padding: int, dilation: int, groups: int
) -> Tensor:
    """A batched matrix product for each tap of the window: exported for any number of images."""
    k = weight.shape[3]
    own = kernels(weight, kernel, spatial).unflatten(1, (groups, -1))
    extended = F.pad(x, (padding,) * 4).unflatten(1, (groups, -1))
    height, width = ((side + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for side in x.shape[2:])
    products = []
    for i in range(k):
        for j in range(k):
            top, left = i * dilation, j * dilation
            rows = slice(top, top + (height - 1) * stride + 1, stride)
            pixels = extended[..., rows, left : left + (width - 1) * stride + 1 : stride]
            products.append(own[..., i, j] @ pixels.flatten(3))
    out: Tensor = torch.stack(products).sum(0).flatten(1, 2)
    return out.view(*out.shape[:2], height, width)


CORES = CoreTable(
    Implementation("grouped", grouped, note="as published: the batch as groups of one convolution"),
    Implementation("by-taps", by_taps, note="a batched matrix product for each tap: exported for any batch"),
    fallback="grouped",
)
