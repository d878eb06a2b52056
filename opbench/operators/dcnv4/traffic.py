"""Bytes that DCNv4's kernels ask of memory where that isn't each input and output once: as DCNv3's.

Axes: x (N, H, W, C), offset_mask (N, Ho, Wo, M), grad and out (N, Ho, Wo, C).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from opbench.operators.common import sampling_cpu, sampling_triton
from opbench.schema import MovedBytes


def _triton_backward(arguments: Sequence[Any], outputs: Sequence[Tensor], *, fused: bool = False) -> int:
    """Fused with a softmax, the masks' gradient is written unrounded before the logits' is."""
    *inputs, size, _, _, _, group, _, remove_center, deterministic, wanted = arguments
    grad, x, offset_mask = inputs
    n, h, w, _ = x.shape
    masks = offset_mask[..., 0].numel() * group * (size * size - remove_center)
    # A softmax of its own, if any; its offsets and weights; what every sampling takes.
    weights = masks * (max(4, x.element_size()) if fused else x.element_size())
    softmax = masks * x.element_size() + weights if fused else 0
    gathering = softmax + 2 * masks * x.element_size() + weights
    gathering += sampling_triton.gathered(masks, (n, group, h, w), grad, x)
    unrounded = 4 * masks if fused and offset_mask.element_size() < 4 else 0
    return sampling_triton.backward(inputs, outputs, deterministic, wanted, unrounded=unrounded, gathering=gathering)


def _logits_backward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    return _triton_backward(arguments, outputs, fused=True)


CPU = sampling_cpu.traffic("dcnv4_cpu", 2)
TRITON: Mapping[str, MovedBytes] = {
    "opbench::dcnv4_triton_backward": _triton_backward,
    "opbench::dcnv4_triton_logits_backward": _logits_backward,
}
