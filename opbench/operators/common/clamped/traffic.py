"""Bytes that the sampling kernel asks of memory where that isn't each input and output once.

Rows of x that several samples read stay in the first caches and don't count: offsets are taken to lie near. Axes: x
(N, H, W, C), positions (N, V, U, G*P*2), weights (N, V, U, G*P) or None, grad and out (N, V, U, C).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from opbench.schema import MovedBytes


def _copied(*tensors: Tensor | None) -> int:
    """What it takes to make the last axis of each dense."""
    return sum(2 * t.nbytes for t in tensors if t is not None and t.stride(3) != 1 and t.shape[3] != 1)


def _sum(*tensors: Tensor | None) -> int:
    return sum(t.nbytes for t in tensors if t is not None)


def _forward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    inputs = arguments[:3]
    return _copied(*inputs) + _sum(*inputs, outputs[0])


def _backward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    """A kernel for the gradients of positions and weights, another one for x's, which begins as zeros and is a sum."""
    grad, x, positions, weights, *_, wanted = arguments
    moved = _copied(grad, x, positions, weights)
    if wanted[1] or wanted[2]:
        moved += _sum(grad, x, positions, weights, *outputs[1:])
    if wanted[0]:
        # Summed in float32 where x is narrower, and rounded from there.
        added = 3 * x.nbytes if x.element_size() >= 4 else 16 * x.numel() + x.nbytes
        moved += _sum(grad, positions, weights) + added
    return moved


CPU: Mapping[str, MovedBytes] = {"opbench::sampling_cpu": _forward, "opbench::sampling_cpu_backward": _backward}
