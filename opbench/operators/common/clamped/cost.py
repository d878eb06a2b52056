"""What the convolution of clamped samples costs, and the same as one dispatched operation that computes nothing.

Forward, of P samples an output pixel: four multiply-adds for each channel, 4PC, then the product with the weights,
P*C*O. Backward takes twice that: the product's two gradients, and 8PC for the scatter to x and for the four inner
products <grad, corner> that the gradients of a place are made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from opbench.operators.common import sampling_cpu
from opbench.operators.common.counting import counting, formulas, of_all, zero_core


def _shape(x: Tensor, rows: Tensor, columns: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0], *rows.shape[2:])


COUNTING = counting(zero_core("clamped_core(Tensor x, Tensor rows, Tensor columns, Tensor weight)", _shape))


def core_macs(channels: int, outputs: int, samples: int) -> int:
    """(4 + O) * C for each of the N*P*Ho*Wo samples. Backward takes twice that."""
    return (4 + outputs) * channels * samples


def _macs(arguments: Sequence[Any]) -> int:
    x, rows, _, weight = arguments[:4]
    return core_macs(x[1], weight[0], prod(rows))


FORMULAS = {
    **formulas(_macs, of_all(_macs), "clamped_core"),
    **sampling_cpu.FORMULAS,  # the samples of the core `cpu`; its product is one of torch's operations
}
