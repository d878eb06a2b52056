"""CARAFE++'s downsampling from its formula, in the dtype of its inputs: what every implementation is held to."""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.operators.common.definitions import convolution, softmax, zero_extended
from opbench.schema import Tensors

PAPER = "Wang et al. 2020, CARAFE++: Unified Content-Aware ReAssembly of FEatures, arXiv 2012.04733"


def reassembly(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, stride: int) -> Tensor:
    """`x` (N, C, H, W), mask (N, g*k*k, Ho, Wo) -> (N, C, Ho, Wo), with Ho = ceil(H / stride), Wo likewise.

    Output pixel (Y, X) is the k x k window of x around (stride*Y, stride*X), weighed by the mask there. Tap (iy, ix)
    multiplies the mask by every stride-th pixel of x shifted, with zeros for both where it leaves the image.
    """
    N, C, H, W = x.shape
    k, g, s = kernel_size, group_size, stride
    rows, columns = mask.shape[2:]
    offset = torch.arange(k, device=x.device).unsqueeze(1) - k // 2
    y, x_ = torch.arange(rows, device=x.device) * s + offset, torch.arange(columns, device=x.device) * s + offset
    inside = ((y >= 0) & (y < H)).view(k, 1, rows, 1) & ((x_ >= 0) & (x_ < W)).view(1, k, 1, columns)
    weights = torch.where(inside, mask.reshape(N, g, 1, k, k, rows, columns), 0)
    image = zero_extended(x, k // 2).unflatten(1, (g, C // g))
    total = x.new_zeros(N, g, C // g, rows, columns)
    for iy in range(k):
        for ix in range(k):
            taken = image[..., iy : iy + (rows - 1) * s + 1 : s, ix : ix + (columns - 1) * s + 1 : s]
            total = total + taken * weights[:, :, :, iy, ix]
    return total.flatten(1, 2)


def downsampling(tensors: Tensors, *, down_kernel: int, down_group: int, scale_factor: int) -> Tensor:
    """The module, of "x" (N, C, H, W) and its parameters by their state-dict names -> (N, O, Ho, Wo).

    A mask predicted at the output's pixels, its softmax over the taps of each group, and the reassembly under it; then
    a 1x1 convolution where there is one.
    """
    x = tensors["x"]
    compressed = convolution(x, tensors["channel_compressor.weight"], tensors["channel_compressor.bias"])
    encoder = tensors["content_encoder.weight"], tensors["content_encoder.bias"]
    logits = convolution(compressed, *encoder, stride=scale_factor)
    mask = softmax(logits.unflatten(1, (down_group, down_kernel**2)), 2).flatten(1, 2)
    out = reassembly(x, mask, kernel_size=down_kernel, group_size=down_group, stride=scale_factor)
    return convolution(out, tensors["project.weight"]) if "project.weight" in tensors else out
