"""Bytes that DySample's kernels ask of memory where that isn't each input and output once.

On the CPU x is laid out anew to be sampled (written and read once more), unless its channels are dense already and fill
whole vectors; its gradient is a sum that begins as zeros, and is laid out anew likewise. Each gradient is a pass of its
own. In Triton one kernel makes both; x's gradient begins as zeros and is added up, in a float32 copy where it is
narrower, or it is gathered from sorted samples. Neighbouring samples read the same pixels: these stay in the caches, as
offsets are taken to lie near.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from opbench.kernels.carafe_shapes import channels_last
from opbench.operators.common import sampling_triton
from opbench.schema import MovedBytes

# Bytes of the widest vectors: the figure is the same on machines whose vectors are narrower.
WIDEST = 64


def _image(x: Tensor) -> int:
    return x.numel() * max(4, x.element_size())


def _sampled(x: Tensor, groups: int) -> int:
    """x, as it is sampled."""
    whole = x.shape[1] // groups * x.element_size() % WIDEST == 0 and x.element_size() >= 4
    return x.nbytes if channels_last(x) and whole else x.nbytes + 2 * _image(x)


def _forward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    x, offset, _, groups = arguments
    return int(_sampled(x, groups) + offset.nbytes + outputs[0].nbytes)


def _backward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    grad, x, offset, _, groups, wanted = arguments
    moved = 0
    if wanted[1]:
        moved += _sampled(x, groups) + grad.nbytes + offset.nbytes + outputs[1].nbytes
    if wanted[0]:
        # Zeros, a sum, and what is read of it at last.
        moved += grad.nbytes + offset.nbytes + 4 * _image(x) + outputs[0].nbytes
    return moved


def _triton_backward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    grad, x, offset, scale, groups, deterministic, wanted = arguments
    n, _, h, w = x.shape
    gathering = offset.nbytes + sampling_triton.gathered(n * groups * h * w * scale**2, (n, groups, h, w), grad, x)
    return sampling_triton.backward((grad, x, offset), outputs, deterministic, wanted, gathering=gathering)


CPU: Mapping[str, MovedBytes] = {"opbench::dysample_cpu": _forward, "opbench::dysample_cpu_backward": _backward}
TRITON: Mapping[str, MovedBytes] = {"opbench::dysample_triton_backward": _triton_backward}
