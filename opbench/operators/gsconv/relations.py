"""What GSConv promises beside its definition; calls are those of its module, parameters by their state-dict names."""

from __future__ import annotations

import torch

from opbench.conformance.comparing import run, same
from opbench.relations import Core, Example, Relation


def _a_half_that_is_zero_leaves_the_other(core: Core, example: Example) -> None:
    """A norm of zeros gives zeros, and SiLU keeps them: where the second half lies shows in what is left."""
    silent = {f"cv2.bn.{name}": torch.zeros_like(example.tensors[f"cv2.bn.{name}"]) for name in ("weight", "bias")}
    changed = example.replace(**silent)
    out = run(core, changed)
    channels = torch.arange(out.shape[1], device=out.device)
    half = out.shape[1] // 2
    if example.options["shuffle"] == "halves":
        second = channels % 2 == 1
    else:
        second = torch.cat((channels[::2], channels[1::2])) >= half
    same(out[:, second], torch.zeros_like(out[:, second]), changed, "channels of a second half whose norm is 0")


RELATIONS = (
    Relation(
        "places-of-the-halves",
        "exact",
        "a second half whose norm is 0: the output is 0 at the places of its channels, whatever x",
        _a_half_that_is_zero_leaves_the_other,
    ),
)
