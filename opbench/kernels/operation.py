"""Enters a function and its gradient into torch's dispatcher as operations of their own.

As such they are opaque to `torch.compile` and `torch.export`, which see their shapes only, and counters see them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

_library = torch.library.Library("opbench", "FRAGMENT")


def define(
    schema: str, compute: Callable[..., Any], shapes: Callable[..., Any], *, devices: Sequence[str] = ("cpu",)
) -> None:
    """Adds `opbench::<schema>`: `compute` runs on tensors of the devices, `shapes` on tensors without data.

    Under autocast its floating inputs are cast to the widest of their dtypes, as `grid_sample`'s are: an operation
    that sums over a mask gains nothing from narrower inputs, and sampling offsets lose pixels in them.
    """
    name = schema.split("(", 1)[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.register_fake(f"opbench::{name}", shapes, lib=_library)
    for device in devices:
        _library.impl(name, compute, device.upper())
        _library.impl(name, _promoted(name, device), f"Autocast{device.upper()}")


def _promoted(name: str, device: str) -> Callable[..., Any]:
    def promoted(*arguments: Any) -> Any:
        floating = [a.dtype for a in arguments if isinstance(a, Tensor) and a.is_floating_point()]
        widest = reduce(torch.promote_types, floating)
        cast = [a.to(widest) if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments]
        with torch.autocast(device, enabled=False):
            return getattr(torch.ops.opbench, name)(*cast)

    return promoted


def differentiate(name: str, backward: Callable[..., Any], setup_context: Callable[..., None]) -> None:
    """Gives `opbench::<name>` its gradient, which `opbench::<name>_backward` computes.

    That one has none: torch would warn and take it for a constant, so that second derivatives came out wrong.
    """

    def twice(ctx: Any, *gradients: Any) -> Any:
        raise NotImplementedError(f"{name}: second derivatives are not implemented (was create_graph=True meant?)")

    torch.library.register_autograd(f"opbench::{name}", backward, setup_context=setup_context, lib=_library)
    torch.library.register_autograd(f"opbench::{name}_backward", twice, lib=_library)
