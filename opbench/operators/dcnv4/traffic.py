"""Bytes that DCNv4's CPU kernels ask of memory where that isn't each input and output once: as DCNv3's.

Axes: x (N, H, W, C), offset_mask (N, Ho, Wo, M), grad and out (N, Ho, Wo, C).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from opbench.operators.common.sampling_cpu import accumulated, copied
from opbench.schema import MovedBytes


def _cpu(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    x, offset_mask = arguments[:2]
    return copied(x, offset_mask) + int(x.nbytes + offset_mask.nbytes + outputs[0].nbytes)


def _cpu_backward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    """A kernel for the gradient of offsets and masks, another one for x's."""
    grad, x, offset_mask, *_, wanted = arguments
    moved = copied(grad, x, offset_mask)
    if wanted[1]:
        moved += grad.nbytes + x.nbytes + 2 * offset_mask.nbytes
    if wanted[0]:
        moved += grad.nbytes + offset_mask.nbytes + accumulated(x)
    return moved


CPU: Mapping[str, MovedBytes] = {"opbench::dcnv4_cpu": _cpu, "opbench::dcnv4_cpu_backward": _cpu_backward}
