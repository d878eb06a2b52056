"""DCNv2 from its formula, in the dtype of its inputs: what every core is held to."""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.operators.common.bilinear import again_in_backward, as_rows, bilinear


def dcnv2_definition(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *, stride: int, pad: int, dilation: int, group: int
) -> Tensor:
    """x (N, C, H, W), offset (N, 2*G*K, Ho, Wo), mask (N, G*K, Ho, Wo), weight (O, C, k, k) -> (N, O, Ho, Wo).

    Equation 2 of the paper. Tap (i, j) = point i*k + j of an output pixel in row v lies at
    y = v*stride - pad + i*dilation + offset_y, and likewise in x; sampled as DCNv3's definition does.
    """
    batch, _, height, width = x.shape
    outputs, _, k, _ = weight.shape
    out_height, out_width = offset.shape[2:]
    rows = as_rows(x.permute(0, 2, 3, 1), group)
    pairs = offset.permute(0, 2, 3, 1).reshape(batch, out_height, out_width, group, k * k, 2)
    masks = mask.permute(0, 2, 3, 1).reshape(batch, out_height, out_width, group, k * k)
    corner_y = (torch.arange(out_height, device=x.device) * stride - pad).to(x.dtype).view(-1, 1, 1)
    corner_x = (torch.arange(out_width, device=x.device) * stride - pad).to(x.dtype).view(-1, 1)

    def tap(i: int, j: int, rows: Tensor, pairs: Tensor, masks: Tensor, weight: Tensor) -> Tensor:
        p = i * k + j
        at_y = corner_y + i * dilation + pairs[..., p, 0]
        at_x = corner_x + j * dilation + pairs[..., p, 1]
        return bilinear(rows, height, width, at_x, at_y, masks[..., p]).flatten(3) @ weight[:, :, i, j].T

    out = torch.zeros(batch, out_height, out_width, outputs, dtype=x.dtype, device=x.device)
    for i in range(k):
        for j in range(k):
            out = out + again_in_backward(tap, i, j, rows, pairs, masks, weight)
    return out.permute(0, 3, 1, 2)
