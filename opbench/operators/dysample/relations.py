"""What DySample promises beside its definition, at any of its settings: said of its layer, by its parameters' names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from opbench.conformance.comparing import run
from opbench.relations import Core, Example, Relation, Violation

EPS = torch.finfo(torch.float32).eps


def at_rest_is_bilinear(core: Core, example: Example) -> None:
    """offset.weight = offset.bias = 0: bilinear interpolation, align_corners=False."""
    call = example.filled({"offset.weight": 0.0, "offset.bias": 0.0})
    x = call.tensors["x"].double()
    expected = F.interpolate(x, scale_factor=call.options["scale"], mode="bilinear", align_corners=False)
    _close(run(core, call), expected, call)


def constant_stays(core: Core, example: Example) -> None:
    """x = 1: every sample is 1, wherever it lies."""
    call = example.filled({"x": 1.0})
    out = run(core, call)
    _close(out, torch.ones_like(out, dtype=torch.float64), call)


def far_is_the_corner(core: Core, example: Example) -> None:
    """offset.weight = 0 and offset.bias = 1e5: every sample is moved onto the last row and column."""
    call = example.filled({"offset.weight": 0.0, "offset.bias": 1e5})
    out = run(core, call)
    _close(out, call.tensors["x"][..., -1:, -1:].double().expand_as(out), call)


RELATIONS = (
    Relation("at-rest", "bounded", "offsets 0: bilinear interpolation, align_corners=False", at_rest_is_bilinear),
    Relation("constant-image", "bounded", "x = 1: out = 1", constant_stays),
    Relation("far-away", "bounded", "samples far below and to the right: out = x's last pixel", far_is_the_corner),
)


def _close(out: Tensor, expected: Tensor, call: Example) -> None:
    """A location is rounded by a few eps of the image's size, which moves a sample by that much of x's range."""
    x = call.tensors["x"].double()
    own = torch.finfo(out.dtype).eps
    allowed = (2 * own + 8 * min(own, EPS) * (2 + sum(x.shape[2:]))) * float(x.abs().amax())
    off = float((out.double() - expected).abs().amax())
    if not off <= allowed:
        raise Violation(f"output: off by {off:.3g}, where rounding explains {allowed:.3g}", call)
