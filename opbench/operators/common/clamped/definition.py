"""The convolution of clamped samples from its formula, in the dtype of its inputs: what every core is held to."""

from __future__ import annotations

import torch
from torch import Tensor

from opbench.operators.common.bilinear import again_in_backward, as_rows, bilinear


def clamped_definition(x: Tensor, rows: Tensor, columns: Tensor, weight: Tensor, *, twice: bool = False) -> Tensor:
    """x (N, C, H, W), rows and columns (N, P, Ho, Wo) in pixels, weight (O, C, P) -> (N, O, Ho, Wo).

    out[n, :, v, u] = sum over p of weight[:, :, p] @ sample(x[n], rows[n, p, v, u], columns[n, p, v, u]): bilinear, and
    a place outside [0, H - 1] or [0, W - 1] moved to its nearest border, where it has no gradient. With `twice` a
    sample counts twice for each axis on which it isn't in [0, size - 1), as in LDConv's published code.
    """
    _, _, H, W = x.shape
    outputs, _, points = weight.shape
    pixels = as_rows(x.permute(0, 2, 3, 1), 1)

    def term(p: int, pixels: Tensor, rows: Tensor, columns: Tensor, weight: Tensor) -> Tensor:
        row, times_row = _held(rows[:, p].unsqueeze(-1), H, twice)
        column, times_column = _held(columns[:, p].unsqueeze(-1), W, twice)
        return bilinear(pixels, H, W, column, row, times_row * times_column).flatten(3) @ weight[:, :, p].T

    N, _, height, width = rows.shape
    out = torch.zeros(N, height, width, outputs, dtype=x.dtype, device=x.device)
    for p in range(points):
        out = out + again_in_backward(term, p, pixels, rows, columns, weight)
    return out.permute(0, 3, 1, 2)


def _held(at: Tensor, size: int, twice: bool) -> tuple[Tensor, Tensor]:
    """The places moved into the image, and how often they count."""
    inside = (at >= 0) & (at < size - 1)
    held = torch.where(inside, at, at.detach().clamp(0, size - 1))
    return held, torch.where(inside, 1.0, 2.0 if twice else 1.0).to(at.dtype)
