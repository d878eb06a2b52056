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

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from opbench.operators.common.counting import formulas, of_x_and_others
from opbench.schema import MovedBytes


def macs(channels: int, samples: int) -> int:
    """4C a sample, each of `channels` / G, so that G groups count as one; gradients of all inputs take twice that."""
    return 4 * channels * samples


def _forward_macs(arguments: Sequence[Any]) -> int:
    x, positions, _, group, *_ = arguments
    n, v, u, numbers = positions
    return macs(x[-1], n * v * u * (numbers // (2 * group)))


def accumulated(x: Tensor) -> int:
    """Bytes of `x`'s gradient: zeros, then a sum; rounded from a float32 copy where it is narrower."""
    if x.element_size() >= 4:
        return 3 * x.nbytes
    return 4 * 4 * x.numel() + x.nbytes


def _copied(*tensors: Tensor | None) -> int:
    """Bytes that it takes to make the last axis of each dense."""
    return sum(2 * t.nbytes for t in tensors if t is not None and t.stride(3) != 1 and t.shape[3] != 1)


def _sum(*tensors: Tensor | None) -> int:
    return sum(t.nbytes for t in tensors if t is not None)


def traffic(name: str, inputs: int) -> Mapping[str, MovedBytes]:
    """Bytes of the operation `opbench::NAME` of x and what says where and how it is sampled, so many `inputs`.

    Backward, `(grad, *inputs, ..., wanted)`, has a kernel for x's gradient and another one for all others.
    """

    def forward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
        return _copied(*arguments[:inputs]) + _sum(*arguments[:inputs], outputs[0])

    def backward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
        grad, x, *located = arguments[: inputs + 1]
        to_x, *to_others = arguments[-1]
        moved = _copied(grad, x, *located)
        if any(to_others):
            moved += _sum(grad, x, *located, *outputs[1:])
        if to_x:
            moved += _sum(grad, *located) + accumulated(x)
        return moved

    return {f"opbench::{name}": forward, f"opbench::{name}_backward": backward}


FORMULAS = formulas(_forward_macs, of_x_and_others(_forward_macs), "sampling_cpu")
TRAFFIC = traffic("sampling_cpu", 3)
