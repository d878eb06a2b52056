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

from opbench.operators.common.sampling_cpu import accumulated, copied
from opbench.operators.common.sampling_triton import by_atomics, gathered
from opbench.schema import MovedBytes


def _sum(*tensors: Tensor) -> int:
    return sum(t.nbytes for t in tensors)


def _cpu(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    inputs = arguments[:3]
    return copied(*inputs) + _sum(*inputs, outputs[0])


def _cpu_backward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    """A kernel for the gradients of offset and mask, another one for x's."""
    grad, x, offset, mask, *_, wanted = arguments
    moved = copied(grad, x, offset, mask)
    if wanted[1] or wanted[2]:
        moved += _sum(grad, x, offset, mask, *outputs[1:])
    if wanted[0]:
        moved += _sum(grad, offset, mask) + accumulated(x)
    return moved


def _triton_backward(arguments: Sequence[Any], outputs: Sequence[Tensor], *, fused: bool = False) -> int:
    """One kernel for all gradients; without atomics, x's is gathered from sorted samples."""
    grad, x, offset, mask, *_, deterministic, wanted = arguments
    atomic = wanted[0] and by_atomics(deterministic)
    moved = 0
    if atomic or wanted[1] or wanted[2]:
        moved += _sum(grad, offset, mask, *outputs[1:])
        moved += x.nbytes if wanted[1] or wanted[2] else 0
        # The mask's gradient is written unrounded before the logits' is.
        moved += 4 * mask.numel() if fused and wanted[2] and mask.element_size() < 4 else 0
        moved += accumulated(x) if atomic else 0
    if wanted[0] and not atomic:
        moved += _gathered(arguments, fused=fused)
    return moved


def _gathered(arguments: Sequence[Any], *, fused: bool) -> int:
    """A softmax of its own, if any; what every sampling takes; its offsets and weights."""
    grad, x, offset, mask, _, _, _, _, group, *_ = arguments
    n, h, w, _ = x.shape
    weights = mask.numel() * max(4, mask.element_size()) if fused else mask.nbytes
    softmax = mask.nbytes + weights if fused else 0
    return int(softmax + offset.nbytes + weights + gathered(mask.numel(), (n, group, h, w), grad, x))


def _logits_backward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    return _triton_backward(arguments, outputs, fused=True)


CPU: Mapping[str, MovedBytes] = {
    "opbench::dcnv3_cpu": _cpu,
    "opbench::dcnv3_cpu_backward": _cpu_backward,
    # Their softmax stays in a block's tile.
    "opbench::dcnv3_cpu_logits": _cpu,
    "opbench::dcnv3_cpu_logits_backward": _cpu_backward,
}
TRITON: Mapping[str, MovedBytes] = {
    "opbench::dcnv3_triton_backward": _triton_backward,
    "opbench::dcnv3_triton_logits_backward": _logits_backward,
}
