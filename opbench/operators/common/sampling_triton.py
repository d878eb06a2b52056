"""Bytes that Triton's kernels ask of memory for the gradients of an operator that samples x."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from opbench.operators.common.sampling_cpu import accumulated

_INDEX_BYTES = 8


def by_atomics(deterministic: bool | None) -> bool:
    """Whether x's gradient is added up by atomics: as the call says, or else as torch's global mode does."""
    if deterministic is not None:
        return not deterministic
    return not torch.are_deterministic_algorithms_enabled() or torch.is_deterministic_algorithms_warn_only_enabled()


def backward(
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    deterministic: bool | None,
    wanted: Sequence[bool],
    *,
    unrounded: int = 0,
    gathering: int,
) -> int:
    """Bytes of the gradients `outputs` of (grad, x, what says where and how it is sampled): one kernel makes them all.

    By atomics x's is added up in it; else it is gathered from sorted samples afterwards, for `gathering` bytes. Of
    other gradients `unrounded` bytes are written before they are rounded.
    """
    grad, x, *located = inputs
    to_x, *to_others = wanted
    added = to_x and by_atomics(deterministic)
    moved = 0
    if added or any(to_others):
        moved += sum(tensor.nbytes for tensor in (grad, *located, *outputs[1:]))
        moved += x.nbytes + unrounded if any(to_others) else 0
        moved += accumulated(x) if added else 0
    return moved + (gathering if to_x and not added else 0)


def gathered(samples: int, images: tuple[int, int, int, int], grad: Tensor, x: Tensor) -> int:
    """Bytes of x's gradient from `samples` of images (N, G, H, W), beside those of the samples' offsets and weights.

    Each has a key and its place within a cell, written and read, and the keys are sorted with the samples' numbers;
    then where each cell's begin is found, and every pixel sums those around it.
    """
    n, groups, h, w = images
    keys, cells = _INDEX_BYTES * samples, _INDEX_BYTES * (n * groups * (h + 1) * (w + 1) + 1)
    shares = 2 * samples * max(4, x.element_size())
    sort = keys + shares + 3 * keys
    search = 3 * cells + keys
    return int(sort + search + shares + grad.nbytes + keys + cells + x.nbytes)
