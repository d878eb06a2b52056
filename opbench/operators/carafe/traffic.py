"""Bytes that CARAFE's kernels ask of memory where that isn't each input and output once.

A kernel's tile, and rows of x that several rows of output read, stay in the first caches and don't count. An input that
can't be read in place is copied first, which reads and writes it; then the copy is read.

Axes: x (N, C, H, W), mask (N, g*k*k, s*H, s*W), grad and out (N, C, s*H, s*W). The gradients of x and of the mask are a
kernel each, with its own pass over the output's gradient; what isn't wanted isn't read. The fused kernels take logits
for the mask. Triton's keep `stats`, two numbers for each pixel and group; in half precision the gradient of the mask is
written unrounded, too. The CPU's keep nothing and make the mask again for backward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from opbench.kernels.carafe_shapes import channels_last
from opbench.schema import MovedBytes


def _copied(tensor: Tensor, last: bool) -> int:
    """What it takes to make the innermost axis dense, of a tensor to be read as channels-last or not."""
    axis = 1 if last else 3
    return 0 if tensor.stride(axis) == 1 or tensor.shape[axis] == 1 else 2 * tensor.nbytes


def _cpu(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    """`x` and mask read, out written."""
    x, mask, *_ = arguments
    return int(_copied(x, channels_last(x)) + x.nbytes + mask.nbytes + outputs[0].nbytes)


def _cpu_backward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    grad, x, mask, *_, wanted = arguments
    copies = sum(_copied(tensor, channels_last(x)) for tensor in (x, grad))
    return copies + _gradients(grad, x, mask, outputs, wanted)


def _strided(logits: Tensor) -> int:
    """What it takes to copy logits of which neither rows nor channels are dense."""
    return 0 if logits.stride(1) == 1 else _copied(logits, last=False)


def _cpu_logits(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    return _cpu(arguments, outputs) + _strided(arguments[1])


def _cpu_logits_backward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    """Weights are made of the logits; the gradient of these takes their place, and is made of them, too."""
    _, _, logits, *_, wanted = arguments
    return int(_cpu_backward(arguments, outputs) + _strided(logits) + (2 + bool(wanted[1])) * logits.nbytes)


def _triton_backward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    grad, x, mask, *_, wanted = arguments
    return _gradients(grad, x, mask, outputs, wanted)


def _logits_backward(arguments: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    grad, x, logits, stats, *_, wanted = arguments
    to_x, to_logits = map(bool, wanted)
    unrounded = 4 * logits.numel() if to_logits and logits.element_size() < 4 else 0
    # Each kernel makes the mask of the logits and the stats; for x's gradient the logits stand for the mask already.
    mask = stats.nbytes * (to_x + to_logits) + logits.nbytes * to_logits
    return int(_gradients(grad, x, logits, outputs, wanted) + mask + unrounded)


def _gradients(grad: Tensor, x: Tensor, mask: Tensor, outputs: Sequence[Tensor], wanted: Sequence[bool]) -> int:
    """`x`'s of grad and mask, the mask's of grad and x."""
    read = sum(grad.nbytes + other.nbytes for other, want in zip((mask, x), wanted, strict=True) if want)
    return read + sum(output.nbytes for output in outputs)


CPU: Mapping[str, MovedBytes] = {
    "opbench::carafe_cpu": _cpu,
    "opbench::carafe_cpu_backward": _cpu_backward,
    "opbench::carafe_cpu_logits": _cpu_logits,
    "opbench::carafe_cpu_logits_backward": _cpu_logits_backward,
}
TRITON: Mapping[str, MovedBytes] = {
    "opbench::carafe_triton_backward": _triton_backward,
    "opbench::carafe_triton_logits_backward": _logits_backward,
}
