"""What the CPU's sampling at given positions costs: its operations' MACs, and the bytes that they ask of memory.

Each sample is four multiply-adds per channel, its weight folded into the four bilinear ones. Backward: the gradient of
x scatters the same products back; those of positions and weights share the four inner products <grad, corner>.

A block's tile, and rows of x that several samples share, stay in the first caches and don't count: samples are taken
to lie near each other. x's gradient begins as zeros and is then read and written once more as it is added up; in half
precision that is a float32 copy of it, which is read once again to be rounded. Channels of a group are counted as one
task: where threads share them out, each reads the group's positions and weights again.

Axes: x (N, H, W, C), positions (N, V, U, G*P*2), weights (N, V, U, G*P), grad and out (N, V, U, C).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from opbench.schema import MovedBytes


def macs(channels: int, samples: int) -> int:
    """4C a sample, each of `channels` / G, so that G groups count as one; gradients of all inputs take twice that."""
    return 4 * channels * samples


def _forward_macs(arguments: Sequence[Any]) -> int:
    x, positions, _, group, *_ = arguments
    n, v, u, numbers = positions
    return macs(x[-1], n * v * u * (numbers // (2 * group)))


def _backward_macs(arguments: Sequence[Any]) -> int:
    """As much as forward for the gradient of x, and once more for those of positions and weights, which share it."""
    _, *inputs, wanted = arguments
    x, positions, weights = wanted
    return (bool(x) + bool(positions or weights)) * _forward_macs(inputs)


def accumulated(x: Tensor) -> int:
    """Bytes of `x`'s gradient: zeros, then a sum; rounded from a float32 copy where it is narrower."""
    if x.element_size() >= 4:
        return 3 * x.nbytes
    return 4 * 4 * x.numel() + x.nbytes


def copied(*tensors: Tensor) -> int:
    """Bytes that it takes to make the last axis of each dense."""
    return sum(2 * t.nbytes for t in tensors if t.stride(3) != 1 and t.shape[3] != 1)


def _sum(*tensors: Tensor) -> int:
    return sum(t.nbytes for t in tensors)


def _forward_bytes(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    inputs = [t for t in arguments[:3] if t is not None]
    return copied(*inputs) + _sum(*inputs, outputs[0])


def _backward_bytes(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    """A kernel for the gradients of positions and weights, another one for x's."""
    grad, x, *_, wanted = arguments
    located = [t for t in arguments[2:4] if t is not None]
    moved = copied(grad, x, *located)
    if wanted[1] or wanted[2]:
        moved += _sum(grad, x, *located, *outputs[1:])
    if wanted[0]:
        moved += _sum(grad, *located) + accumulated(x)
    return moved


FORMULAS: Mapping[str, Callable[[Sequence[Any]], int]] = {
    "opbench::sampling_cpu": _forward_macs,
    "opbench::sampling_cpu_backward": _backward_macs,
}
TRAFFIC: Mapping[str, MovedBytes] = {
    "opbench::sampling_cpu": _forward_bytes,
    "opbench::sampling_cpu_backward": _backward_bytes,
}
