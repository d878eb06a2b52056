"""EUCB written out, from its paper (EMCAD, arXiv 2405.06880) and the code beside it, in the dtype of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from opbench.operators.common.definitions import convolution, depthwise, normalised
from opbench.operators.interpolation.definition import nearest
from opbench.schema import Tensors


def _hard_swish(x: Tensor) -> Tensor:
    return x * (x + 3).clamp(0, 6) / 6


ACTIVATED: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "relu6": lambda x: x.clamp(0, 6),
    "leakyrelu": lambda x: torch.where(x > 0, x, 0.2 * x),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x * 0.5**0.5)),
    "hswish": _hard_swish,
}


def module(tensors: Tensors, training: bool, *, activation: str) -> Tensor:
    """The block: `tensors` are x (N, C, H, W) and what its state dict holds -> (N, out channels, 2H, 2W)."""
    weight = tensors["up_dwc.1.weight"]
    larger = depthwise(nearest(tensors["x"]), weight, pad=weight.shape[-1] // 2)
    normed = normalised(larger, tensors, "up_dwc.2", training)
    learnt = tensors.get("up_dwc.3.weight")
    features = ACTIVATED[activation](normed) if learnt is None else torch.where(normed > 0, normed, learnt * normed)
    return convolution(features, tensors["pwc.0.weight"], tensors["pwc.0.bias"])
