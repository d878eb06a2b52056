"""What the convolution of clamped samples costs, and the same as one dispatched operation that computes nothing.

Forward, of P samples an output pixel: four multiply-adds for each channel, 4PC, then the product with the weights,
P*C*O. Backward takes twice that: the product's two gradients, and 8PC for the scatter to x and for the four inner
products <grad, corner> that the gradients of a place are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from torch import Tensor

from opbench.operators.common.counting import zero_core
from opbench.schema import Implementation


def _shape(x: Tensor, rows: Tensor, columns: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0], *rows.shape[2:])


count = zero_core("clamped_core(Tensor x, Tensor rows, Tensor columns, Tensor weight)", _shape)


def core_macs(channels: int, outputs: int, samples: int) -> int:
    """(4 + O) * C for each of the N*P*Ho*Wo samples. Backward takes twice that."""
    return (4 + outputs) * channels * samples


def _forward_macs(arguments: Sequence[Any]) -> int:
    x, rows, _, weight = arguments[:4]
    return core_macs(x[1], weight[0], prod(rows))


def _backward_macs(arguments: Sequence[Any]) -> int:
    return 2 * _forward_macs(arguments[1:])


def _sampled_macs(arguments: Sequence[Any]) -> int:
    """4C of each sample; of a group, 4C/G."""
    x, positions, _, group = arguments[:4]
    return int(4 * x[3] // group * (prod(positions) // 2))


def _sampled_backward_macs(arguments: Sequence[Any]) -> int:
    """As much as forward for the gradient of x, and once more for those of positions and weights, which share it."""
    x, positions, weights = arguments[-1]
    return (bool(x) + bool(positions or weights)) * _sampled_macs(arguments[1:])


COUNTING = Implementation("counting", count, note="allocates its output and computes nothing")

FORMULAS: Mapping[str, Callable[[Sequence[Any]], int]] = {
    "opbench::clamped_core": _forward_macs,
    "opbench::clamped_core_backward": _backward_macs,
    "opbench::sampling_cpu": _sampled_macs,
    "opbench::sampling_cpu_backward": _sampled_backward_macs,
}
