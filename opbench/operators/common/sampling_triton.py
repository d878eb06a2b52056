"""Bytes that Triton's kernels ask of memory for x's gradient, for whatever operator samples x."""

from __future__ import annotations

import torch
from torch import Tensor

_INDEX_BYTES = 8


def by_atomics(deterministic: bool | None) -> bool:
    """Whether x's gradient is added up by atomics: as the call says, or else as torch's global mode does."""
    if deterministic is not None:
        return not deterministic
    return not torch.are_deterministic_algorithms_enabled() or torch.is_deterministic_algorithms_warn_only_enabled()


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
