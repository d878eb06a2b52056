"""The sizes of CARAFE's calls: x (N, C, H, W), mask (N, g*k*k, s*H, s*W) of standard normal values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opbench.conformance.sizes import LADDER
from opbench.conformance.strategies import example, noise
from opbench.relations import Example, Sizes, Space

# Small, but with an inside and a border, and a window that is larger than a pixel.
_ORDINARY = {"N": 1, "C": 2, "H": 3, "W": 4, "kernel_size": 3, "group_size": 1, "scale_factor": 2}


def completed(asked: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The smallest ordinary call with these sizes; groups divide channels, kernels are odd."""
    sizes = {**_ORDINARY, **{name: value for name, value in asked.items() if name in _ORDINARY}}
    groups = sizes["group_size"]
    sizes["C"] = -(-sizes["C"] // groups) * groups
    for side in ("H", "W"):  # an image of a window's size at least, unless asked otherwise: borders show there
        sizes[side] = asked.get(side, max(sizes[side], sizes["kernel_size"]))
    return sizes if sizes["kernel_size"] % 2 else None


def call(sizes: Mapping[str, Any], space: Space, seed: int) -> Example:
    """The call of these sizes."""
    N, C, H, W, k, g, s = (sizes[name] for name in _ORDINARY)
    options = {"kernel_size": k, "group_size": g, "scale_factor": s}
    return example(space, options, x=noise((N, C, H, W), seed), mask=noise((N, g * k * k, s * H, s * W), seed + 1))


def work(sizes: Mapping[str, Any]) -> int:
    """The multiplications of a call."""
    N, C, H, W, k, _, s = (sizes[name] for name in _ORDINARY)
    multiplications: int = N * C * H * W * (s * k) ** 2
    return multiplications


SIZES = Sizes(
    rungs={
        **dict.fromkeys(("N", "C", "H", "W"), LADDER),
        "kernel_size": (1, 3, 5, 7, 9, 11, 13),
        "group_size": (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32),
        "scale_factor": (1, 2, 3, 4, 5, 6, 7, 8),
    },
    completed=completed,
    call=call,
    work=work,
    areas=(("H", "W"), ("N", "C")),
)
