"""CARAFE from its formula, in the dtype of its inputs: what every implementation is held to.

Written from the paper, sharing nothing with an implementation; a test holds `reassembly` equal to the formula read
aloud, one scalar at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.operators.common.definitions import convolution, normalised, pixel_shuffle, silu, softmax, zero_extended
from opbench.schema import Tensors

PAPER = "Wang et al. 2019, CARAFE: Content-Aware ReAssembly of FEatures, arXiv 1905.02188"


def reassembly(x: Tensor, mask: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """`x` (N, C, H, W), mask (N, g*k*k, s*H, s*W) -> (N, C, s*H, s*W).

    Output row Y = s*h + a has parent row h, so splitting Y into (h, a) and X into (w, b) puts every output pixel beside
    its parent; the children's axes a, b then lead. Tap (iy, ix) multiplies the mask by x shifted, with zeros for both
    where it leaves the image. A few channels at a time, so that large images pass through the cache.
    """
    N, C, H, W = x.shape
    k, g, s = kernel_size, group_size, scale_factor
    weights = mask.reshape(N, g, 1, k, k, H, s, W, s).permute(0, 1, 2, 3, 4, 6, 8, 5, 7).contiguous()
    offset = torch.arange(k, device=x.device).unsqueeze(1) - k // 2
    rows = torch.arange(H, device=x.device) + offset
    columns = torch.arange(W, device=x.device) + offset
    inside_rows = ((rows >= 0) & (rows < H)).view(k, 1, 1, 1, H, 1)
    inside_columns = ((columns >= 0) & (columns < W)).view(1, k, 1, 1, 1, W)
    weights = torch.where(inside_rows & inside_columns, weights, 0)
    taps = weights.flatten(3, 4).unbind(3)
    parts = []
    for image in zero_extended(x, k // 2).unflatten(1, (g, C // g, 1, 1)).split(8, dim=2):
        part = x.new_zeros(N, g, image.shape[2], s, s, H, W)
        for tap, weight in enumerate(taps):
            iy, ix = divmod(tap, k)
            part = part + image[..., iy : iy + H, ix : ix + W] * weight
        parts.append(part)
    return torch.cat(parts, 2).permute(0, 1, 2, 5, 3, 6, 4).reshape(N, C, s * H, s * W)


def carafe_module(tensors: Tensors, *, up_kernel: int, up_group: int, scale_factor: int) -> Tensor:
    """The paper's module, of "x" (N, C, H, W) and its parameters under their state-dict names."""
    compressed = convolution(tensors["x"], tensors["channel_compressor.weight"], tensors["channel_compressor.bias"])
    encoded = convolution(compressed, tensors["content_encoder.weight"], tensors["content_encoder.bias"])
    logits = pixel_shuffle(encoded, scale_factor)
    mask = softmax(logits.unflatten(1, (up_group, up_kernel**2)), 2).flatten(1, 2)
    return reassembly(tensors["x"], mask, kernel_size=up_kernel, group_size=up_group, scale_factor=scale_factor)


def yolo_carafe_module(tensors: Tensors, *, k_up: int, scale: int, training: bool) -> Tensor:
    """The write-up's module, of "x" (N, C, H, W), its parameters and its running statistics."""

    def conv_bn(x: Tensor, name: str) -> Tensor:
        return normalised(convolution(x, tensors[f"{name}.conv.weight"]), tensors, f"{name}.bn", training)

    mask = softmax(pixel_shuffle(conv_bn(silu(conv_bn(tensors["x"], "comp")), "enc"), scale), 1)
    return reassembly(tensors["x"], mask, kernel_size=k_up, group_size=1, scale_factor=scale)
