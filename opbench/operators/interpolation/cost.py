"""The MACs of torch's interpolations by two, for counters that don't know them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any


def _interpolation_macs(taps: int) -> Callable[[Sequence[Any]], int]:
    """MACs of a call (input shape, ...): `taps` for each output element, of which there are four per input element."""
    return lambda arguments: int(4 * prod(arguments[0]) * taps)


def _interpolation_backward_macs(taps: int) -> Callable[[Sequence[Any]], int]:
    """MACs of a call (shape of the output's gradient, ...): `taps` for each of its elements."""
    return lambda arguments: int(prod(arguments[0]) * taps)


# Of interpolations by two, which is what this task has. A jit trace hides the factor in a list that fvcore can't read.
FORMULAS: Mapping[str, Callable[[Sequence[Any]], int]] = {
    "aten::upsample_nearest2d": _interpolation_macs(0),
    "aten::upsample_nearest2d_backward": _interpolation_backward_macs(0),
    "aten::upsample_bilinear2d": _interpolation_macs(4),
    "aten::upsample_bilinear2d_backward": _interpolation_backward_macs(4),
    "aten::upsample_bicubic2d": _interpolation_macs(16),
    "aten::upsample_bicubic2d_backward": _interpolation_backward_macs(16),
}
