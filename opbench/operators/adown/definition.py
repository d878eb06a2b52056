"""ADown from its published steps, in the dtype of its inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.operators.common.block import normed_convolution
from opbench.schema import Tensors


def averaged(x: Tensor) -> Tensor:
    """x (N, C, H, W) -> (N, C, H - 1, W - 1): the mean of every 2 x 2 window."""
    rows = x[:, :, 1:] + x[:, :, :-1]
    return (rows[..., 1:] + rows[..., :-1]) / 4


def largest(x: Tensor) -> Tensor:
    """x (N, C, H, W) -> (N, C, ceil(H/2), ceil(W/2)): the largest of a 3 x 3 window around every second pixel.

    Torch's own: it computes nothing, and the bounds know which pixels of a window rounding may take for the largest.
    """
    return F.max_pool2d(x, 3, 2, 1)


def adown_definition(tensors: Tensors, training: bool) -> Tensor:
    """x (N, C, H, W) -> (N, O, H/2, W/2), parameters under the module's state-dict names."""
    x = averaged(tensors["x"])
    half = x.shape[1] // 2
    first = normed_convolution(x[:, :half], tensors, "cv1", training, stride=2)
    second = normed_convolution(largest(x[:, half:]), tensors, "cv2", training)
    return torch.cat((first, second), 1)
