"""GSConv from its formula, in the dtype of its tensors: what every implementation is held to."""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.operators.common.definitions import convolution, depthwise, normalised, silu
from opbench.schema import Tensors


def gsconv_definition(
    x: Tensor,
    tensors: Tensors,
    training: bool,
    *,
    stride: int = 1,
    pad: int | None = None,
    groups: int = 1,
    act: bool = True,
    shuffle: str = "halves",
) -> Tensor:
    """x (N, C, H, W) and the parameters by their state-dict names -> (N, O, Ho, Wo).

    first = act(bn(conv(x))), O/2 channels; second = act(bn(depthwise 5x5 of first)); then the channels of both in
    another order (`opbench.operators.gsconv.cores`). act is SiLU, or nothing.
    """

    def finished(value: Tensor, name: str) -> Tensor:
        value = normalised(value, tensors, f"{name}.bn", training)
        return silu(value) if act else value

    kernels = tensors["cv1.conv.weight"].chunk(groups)
    images = x.chunk(groups, 1)
    convolved = [convolution(image, one, stride=stride, pad=pad) for image, one in zip(images, kernels, strict=True)]
    first = finished(torch.cat(convolved, 1), "cv1")
    second = finished(depthwise(first, tensors["cv2.conv.weight"], stride=1, pad=2), "cv2")
    channels = [*first.unbind(1), *second.unbind(1)]
    half = first.shape[1]
    if shuffle == "halves":
        order = [place for pair in zip(range(half), range(half, 2 * half), strict=True) for place in pair]
    else:
        order = [*range(0, 2 * half, 2), *range(1, 2 * half, 2)]
    return torch.stack([channels[place] for place in order], 1)
