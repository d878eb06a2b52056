"""Shapes of DCNv4's sampling, the same for every kernel of it.

Axes: x (N, H, W, C), offset_mask (N, Ho, Wo, M) with M >= G*P*3, out (N, Ho, Wo, C). In each group there are P pairs
(x, y) and then P masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from opbench.kernels import dcnv3_shapes
from opbench.kernels.operation import check_gradient, empty_gradients


def check(x: Tensor, offset_mask: Tensor, parameters: Sequence[Any]) -> int:
    """P; raises TypeError or ValueError where inputs don't fit together."""
    size, *_, groups, _, remove_center = parameters
    numbers = groups * (size * size - remove_center)
    if offset_mask.dim() != 4 or offset_mask.shape[3] < 3 * numbers:
        raise ValueError(f"offset_mask is {tuple(offset_mask.shape)}; expected (N, Ho, Wo, M) with M >= {3 * numbers}")
    points, _, _ = dcnv3_shapes.check(x, offset_mask[..., : 2 * numbers], offset_mask[..., :numbers], *parameters)
    return points


def checked_output(x: Tensor, offset_mask: Tensor, *parameters: Any) -> Tensor:
    """The operation on tensors without data."""
    check(x, offset_mask, parameters)
    return x.new_empty((*offset_mask.shape[:3], x.shape[3]))


def checked_gradients(grad: Tensor, x: Tensor, offset_mask: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Its backward on tensors without data: contiguous; one that isn't wanted has no elements."""
    *parameters, wanted = rest
    check(x, offset_mask, parameters)
    check_gradient(grad, x, (*offset_mask.shape[:3], x.shape[3]))
    grad_x, grad_packed = empty_gradients((x, offset_mask), wanted)
    return grad_x, grad_packed
