"""LDConv from its formula, in the dtype of its inputs: a function of the image and the named parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from opbench.operators.common.block import normed
from opbench.operators.common.clamped.definition import clamped_definition
from opbench.operators.common.definitions import convolution
from opbench.schema import Tensors


def initial_shape(points: int) -> list[tuple[int, int]]:
    """(row, column) of each of P samples before its offset, from the pixel on: rows of round(sqrt(P)), the last one
    short.

    >>> initial_shape(5)
    [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    """
    wide = round(math.sqrt(points))
    return [divmod(point, wide) for point in range(points)]


def ldconv_definition(tensors: Tensors, training: bool, *, num_param: int, stride: int = 1) -> Tensor:
    """x (N, C, H, W) -> (N, O, ceil(H/stride), ceil(W/stride)) with the parameters under their state-dict names.

    A 3x3 convolution predicts for each sample an offset (rows first, all of them, then columns); sample p of output
    pixel (v, u) lies at (v, u)*stride + initial_shape[p] + offset. The samples' convolution is normalised and goes
    through SiLU.
    """
    x = tensors["x"]
    offset = convolution(x, tensors["p_conv.weight"], tensors["p_conv.bias"])[:, :, ::stride, ::stride]
    height, width = offset.shape[2:]
    shape = torch.tensor(initial_shape(num_param), device=x.device).to(x.dtype)
    down = (torch.arange(height, device=x.device) * stride).to(x.dtype).view(-1, 1)
    right = (torch.arange(width, device=x.device) * stride).to(x.dtype)
    rows = down + shape[:, 0].view(-1, 1, 1) + offset[:, :num_param]
    columns = right + shape[:, 1].view(-1, 1, 1) + offset[:, num_param:]
    out = clamped_definition(x, rows, columns, tensors["conv.0.weight"].squeeze(3), twice=True)
    if "conv.0.bias" in tensors:
        out = out + tensors["conv.0.bias"].view(-1, 1, 1)
    return normed(out, tensors, "conv.1", training)
