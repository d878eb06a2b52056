"""SPDConv from its equations, in the dtype of its inputs."""

from __future__ import annotations

from torch import Tensor

from opbench.operators.common.block import normed
from opbench.operators.common.definitions import convolution
from opbench.schema import Tensors


def space_to_depth(x: Tensor) -> Tensor:
    """x (N, C, H, W), even sizes -> (N, 4C, H/2, W/2): out[n, (2b + a)C + c, h, w] = x[n, c, 2h + a, 2w + b]."""
    N, C, H, W = x.shape
    blocks = x.reshape(N, C, H // 2, 2, W // 2, 2)
    return blocks.permute(0, 5, 3, 1, 2, 4).reshape(N, 4 * C, H // 2, W // 2)


def spdconv_definition(tensors: Tensors, training: bool, *, block: bool) -> Tensor:
    """x (N, C, H, W) -> (N, O, H/2, W/2): equations 1 and 2 of the paper; as a `block` then batch norm and SiLU."""
    depth = space_to_depth(tensors["x"])
    if not block:
        return convolution(depth, tensors["conv.weight"])
    return normed(convolution(depth, tensors["conv.conv.weight"]), tensors, "conv.bn", training)
