"""VoVGSCSP from its formula, in the dtype of its tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.operators.common.definitions import convolution, normalised, silu
from opbench.operators.gsconv.definition import gsconv_definition
from opbench.schema import Tensors


def vovgscsp_definition(tensors: Tensors, training: bool, *, n: int, act: bool = True, shuffle: str) -> Tensor:
    """x (N, C, H, W) and the parameters by their state-dict names -> (N, O, H, W).

    cv3(concatenated(cv2(x), b_n(... b_1(cv1(x))))), each cv a 1x1 convolution, norm and activation; and
    b(y) = gsconv_3x3(gsconv_1x1(y)) + norm(1x1 convolution of y), the 3x3 one without activation.
    """

    def pointwise(value: Tensor, name: str, active: bool) -> Tensor:
        out = convolution(value, tensors[f"{name}.conv.weight"])
        out = normalised(out, tensors, f"{name}.bn", training)
        return silu(out) if active else out

    def of(name: str) -> Tensors:
        start = f"{name}."
        return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}

    x = tensors["x"]
    first = pointwise(x, "cv1", act)
    for number in range(n):
        part = f"gsb.{number}"
        inner = gsconv_definition(first, of(f"{part}.conv_lighting.0"), training, act=act, shuffle=shuffle)
        second = gsconv_definition(inner, of(f"{part}.conv_lighting.1"), training, act=False, shuffle=shuffle)
        first = second + pointwise(first, f"{part}.shortcut", False)
    return pointwise(torch.cat((pointwise(x, "cv2", act), first), 1), "cv3", act)
