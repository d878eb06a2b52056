"""ADown from its published steps, in the dtype of its inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.operators.common.block import normed_convolution
from opbench.schema import Tensors


def averaged(x: Tensor) -> Tensor:
    """x (N, C, H, W) -> (N, C, H - 1, W - 1): the mean of every 2 x 2 window."""
    rows = x[:, :, 1:] + x[:, :, :-1]
    return (rows[..., 1:] + rows[..., :-1]) / 4


def largest(x: Tensor) -> Tensor:
    """x (N, C, H, W) -> (N, C, ceil(H/2), ceil(W/2)): the largest of a 3 x 3 window around every second pixel.

    A window that leaves the image sees its border again, which changes no maximum. Of equal pixels the first counts.
    """
    x = torch.cat((x[:, :, :1], x, x[:, :, -1:]), 2)
    x = torch.cat((x[..., :1], x, x[..., -1:]), 3)
    height, width = ((size - 3) // 2 * 2 + 1 for size in x.shape[2:])
    best = None
    for i in range(3):
        for j in range(3):
            pixel = x[:, :, i : i + height : 2, j : j + width : 2]
            # A difference with a number: where rounding decides its sign the bounds know that both are right.
            best = pixel if best is None else torch.where(pixel - best > 0, pixel, best)
    assert best is not None
    return best


def adown_definition(tensors: Tensors, training: bool) -> Tensor:
    """x (N, C, H, W) -> (N, O, H/2, W/2), parameters under the module's state-dict names."""
    x = averaged(tensors["x"])
    half = x.shape[1] // 2
    first = normed_convolution(x[:, :half], tensors, "cv1", training, stride=2)
    second = normed_convolution(largest(x[:, half:]), tensors, "cv2", training)
    return torch.cat((first, second), 1)
