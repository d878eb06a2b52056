"""What GSConv promises beside its definition; calls are those of its module, parameters by their state-dict names."""

from __future__ import annotations

import torch

from opbench.conformance.comparing import run, same
from opbench.relations import Core, Example, Relation


def _a_half_that_is_zero_leaves_the_other(core: Core, example: Example) -> None:
    """A norm of zeros gives zeros, and SiLU keeps them: where the second half lies shows in what is left."""
    changed = example.filled({"cv2.bn.weight": 0.0, "cv2.bn.bias": 0.0})
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


def _nothing_fused_is_flat(core: Core, example: Example) -> None:
    """Nothing of x is left: every pixel is what the last norm's bias becomes."""
    changed = example.filled({"cv3.conv.weight": 0.0})
    out = run(core, changed)
    same(out, out[:1, :, :1, :1].expand_as(out), changed, "output where the last convolution's weights are 0")


def _one_half_passes_nothing(core: Core, example: Example) -> None:
    """Weights of 0 for what went past the bottlenecks: then nothing inside them matters."""
    fused = example.tensors["cv3.conv.weight"].clone()
    half = fused.shape[1] // 2
    fused[:, half:] = 0
    kept = example.replace(**{"cv3.conv.weight": fused})
    moved = kept.replace(**{"gsb.0.shortcut.bn.bias": example.tensors["gsb.0.shortcut.bn.bias"] + 1})
    same(run(core, moved), run(core, kept), moved, "output where the bottlenecks' channels, the last ones, weigh 0")


BLOCK_RELATIONS = (
    Relation(
        "fused-by-nothing",
        "exact",
        "a last convolution of zeros: all pixels of a channel are equal",
        _nothing_fused_is_flat,
    ),
    Relation(
        "halves-in-order",
        "exact",
        "the last convolution reads the bottlenecks' channels last: with weights of 0 there they don't matter",
        _one_half_passes_nothing,
    ),
)
