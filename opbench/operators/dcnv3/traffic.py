"""Bytes that DCNv3's kernels ask of memory where that isn't each input and output once.

A block's tile, and rows of x that several output pixels sample, stay in the first caches and don't count: offsets are
taken to lie near. x's gradient begins as zeros and is then read and written once more as it is added up; in half
precision that is a float32 copy of it, which is read once again to be rounded. Channels of a group are counted as one
task: where threads share them out, each reads the group's offsets and masks again.

Axes: x (N, H, W, C), offset (N, Ho, Wo, G*P*2), mask and logits (N, Ho, Wo, G*P), grad and out (N, Ho, Wo, C).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from opbench.operators.common import sampling_cpu, sampling_triton
from opbench.schema import MovedBytes


def _triton_backward(arguments: Sequence[Any], outputs: Sequence[Tensor], *, fused: bool = False) -> int:
    """Fused with a softmax, the mask's gradient is written unrounded before the logits' is."""
    *inputs, _, _, _, _, group, _, _, deterministic, wanted = arguments
    grad, x, offset, mask = inputs
    n, h, w, _ = x.shape
    # A softmax of its own, if any; its offsets and weights; what every sampling takes.
    weights = mask.numel() * max(4, mask.element_size()) if fused else mask.nbytes
    softmax = mask.nbytes + weights if fused else 0
    gathering = softmax + offset.nbytes + weights
    gathering += sampling_triton.gathered(mask.numel(), (n, group, h, w), grad, x)
    unrounded = 4 * mask.numel() if fused and wanted[2] and mask.element_size() < 4 else 0
    return sampling_triton.backward(inputs, outputs, deterministic, wanted, unrounded=unrounded, gathering=gathering)


def _logits_backward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    return _triton_backward(arguments, outputs, fused=True)


# The softmax of logits stays in a block's tile.
CPU = {**sampling_cpu.traffic("dcnv3_cpu", 3), **sampling_cpu.traffic("dcnv3_cpu_logits", 3)}
TRITON: Mapping[str, MovedBytes] = {
    "opbench::dcnv3_triton_backward": _triton_backward,
    "opbench::dcnv3_triton_logits_backward": _logits_backward,
}
