"""Bytes that DCNv4's kernels ask of memory where that isn't each input and output once: as DCNv3's.

Axes: x (N, H, W, C), offset_mask (N, Ho, Wo, M), grad and out (N, Ho, Wo, C).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from opbench.operators.common.sampling_cpu import accumulated, copied
from opbench.operators.common.sampling_triton import by_atomics, gathered
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


def _triton_backward(arguments: Sequence[Any], outputs: Sequence[Tensor], *, fused: bool = False) -> int:
    """One kernel for both gradients; without atomics, x's is gathered from sorted samples."""
    grad, x, offset_mask, size, *_, group, _, remove_center, deterministic, wanted = arguments
    masks = offset_mask[..., 0].numel() * group * (size * size - remove_center)
    narrow = offset_mask.element_size() < 4
    added = wanted[0] and by_atomics(deterministic)
    moved = 0
    if added or wanted[1]:
        moved += grad.nbytes + offset_mask.nbytes + outputs[1].nbytes
        moved += x.nbytes if wanted[1] else 0
        # The masks' gradient is written unrounded before the logits' is.
        moved += 4 * masks if fused and wanted[1] and narrow else 0
        moved += accumulated(x) if added else 0
    if wanted[0] and not added:
        n, h, w, _ = x.shape
        weights = masks * (max(4, x.element_size()) if fused else x.element_size())
        softmax = masks * x.element_size() + weights if fused else 0
        offsets = 2 * masks * x.element_size()
        moved += softmax + offsets + weights + gathered(masks, (n, group, h, w), grad, x)
    return int(moved)


def _logits_backward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    return _triton_backward(arguments, outputs, fused=True)


CPU: Mapping[str, MovedBytes] = {"opbench::dcnv4_cpu": _cpu, "opbench::dcnv4_cpu_backward": _cpu_backward}
TRITON: Mapping[str, MovedBytes] = {
    "opbench::dcnv4_triton_backward": _triton_backward,
    "opbench::dcnv4_triton_logits_backward": _logits_backward,
}
