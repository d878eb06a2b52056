"""What DCNv4 promises beside its definition, at any of its settings: said of its layer, by its parameters' names."""

from __future__ import annotations

import torch

from opbench.conformance.comparing import run
from opbench.relations import Core, Example, Relation, Violation


def at_rest_is_nothing(core: Core, example: Example) -> None:
    """offset_mask.weight = offset_mask.bias = 0: nothing is sampled, so that only the output's bias is left."""
    if example.options["center_feature_scale"]:
        return
    call = example.filled({"offset_mask.weight": 0.0, "offset_mask.bias": 0.0})
    out = run(core, call)
    bias = call.tensors.get("output_proj.bias")
    expected = torch.zeros_like(out) if bias is None else bias.expand_as(out)
    if not torch.equal(out, expected):
        raise Violation("output: expected the output layer's bias where every mask is 0", call)


def masks_are_factors(core: Core, example: Example) -> None:
    """Offsets 0, every mask m: what is sampled is m times what it is at 1, also at m = -4: no softmax, no sigmoid."""
    if example.options["center_feature_scale"]:
        return
    options = example.options
    points = options["kernel_size"] ** 2 - options["remove_center"]
    bias = torch.zeros_like(example.tensors["offset_mask.bias"])
    bias[: 3 * options["group"] * points].view(options["group"], 3, points)[:, 2] = 1
    outputs = []
    for factor in (1.0, -4.0):
        call = example.filled({"offset_mask.weight": 0.0}).replace(**{"offset_mask.bias": factor * bias})
        out = run(core, call).double()
        constant = call.tensors.get("output_proj.bias")
        outputs.append(out if constant is None else out - constant.double())
    size = max(float(value.abs().amax()) for value in call.tensors.values() if value.numel())
    depth = (4 * points + 2 * options["channels"]) * (1 + size) ** 4 * options["channels"]
    allowed = 16 * depth * torch.finfo(example.tensors["x"].dtype).eps
    off = float((outputs[1] + 4 * outputs[0]).abs().amax())
    if not off <= allowed:
        raise Violation(f"output at masks of -4 is off by {off:.3g} from -4 times that at 1", call)


RELATIONS = (
    Relation(
        "at-rest", "exact", "offset_mask 0: nothing is sampled, out = the output layer's bias", at_rest_is_nothing
    ),
    Relation(
        "masks-are-factors",
        "bounded",
        "masks are no softmax's: -4 times all of them, -4 times the samples",
        masks_are_factors,
    ),
)
