"""What a partial convolution promises beside its definition."""

from __future__ import annotations

import torch

from opbench.conformance.comparing import run, same
from opbench.relations import Core, Example, Relation

KERNEL = "partial_conv3.weight"


def _the_others_pass(core: Core, example: Example) -> None:
    channels = example.tensors[KERNEL].shape[0]
    out = run(core, example)
    same(out[:, channels:], example.tensors["x"][:, channels:], example, "output channels that aren't convolved")


def _a_centre_of_one_passes_all(core: Core, example: Example) -> None:
    """A kernel that picks its own channel's centre: nothing is added to anything."""
    kernel = torch.zeros_like(example.tensors[KERNEL])
    channels = kernel.shape[0]
    kernel[range(channels), range(channels), 1, 1] = 1
    changed = example.replace(**{KERNEL: kernel})
    same(run(core, changed), example.tensors["x"], changed, "output under a kernel of 1 at the centre")


RELATIONS = (
    Relation("others-pass", "exact", "channels past the first C // n_div: output = x, bit for bit", _the_others_pass),
    Relation(
        "centre-is-identity",
        "exact",
        "a kernel that is 1 at the centre of its own channel: output = x, bit for bit",
        _a_centre_of_one_passes_all,
    ),
)
