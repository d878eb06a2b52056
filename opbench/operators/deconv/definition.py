"""Transposed convolution from its formula."""

from __future__ import annotations

import torch
from torch import Tensor


def deconvolution(x: Tensor, weight: Tensor) -> Tensor:
    """`x` (N, C, H, W), weight (C, O, 3, 3) -> (N, O, 2H, 2W): transposed convolution, stride 2, padding 1.

    Input pixel (h, w) times tap (ky, kx) is added to output pixel (2h - 1 + ky, 2w - 1 + kx), those outside left out:
    on a canvas with a row and a column more in front.
    """
    N, _, H, W = x.shape
    O, rows, columns = weight.shape[1], 2 * H + 1, 2 * W + 1  # noqa: E741 - the letter of the formula
    h = torch.arange(H, device=x.device).view(H, 1)
    w = torch.arange(W, device=x.device)
    taps = [(ky, kx) for ky in range(3) for kx in range(3)]
    places = torch.cat([((2 * h + ky) * columns + 2 * w + kx).flatten() for ky, kx in taps])
    pixels = torch.cat([weight[:, :, ky, kx].T @ x.flatten(2) for ky, kx in taps], 2)
    canvas = x.new_zeros(N, O, rows * columns).index_add(2, places, pixels)
    return canvas.view(N, O, rows, columns)[:, :, 1:, 1:]
