"""What ODConv promises beside its definition; calls are those of its module, parameters by their state-dict names."""

from __future__ import annotations

import torch

from opbench.conformance.comparing import run, same
from opbench.relations import Core, Example, Relation


def _no_kernel_is_nothing(core: Core, example: Example) -> None:
    changed = example.filled({"weight": 0.0})
    out = run(core, changed)
    same(out, torch.zeros_like(out), changed, "output under kernels of zeros")


def _equal_images_stay_equal(core: Core, example: Example) -> None:
    """Each has its own kernel, and these are equal."""
    x = example.tensors["x"]
    changed = example.replace(x=x[:1].expand_as(x).clone())
    out = run(core, changed)
    same(out, out[:1].expand_as(out), changed, "output for equal images")


RELATIONS = (
    Relation("kernels-zero", "exact", "kernels of zeros: output = 0, for there is no bias", _no_kernel_is_nothing),
    Relation(
        "equal-images", "exact", "equal images give equal outputs, each by its own kernel", _equal_images_stay_equal
    ),
)
