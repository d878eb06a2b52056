"""What RFAConv promises beside its definition; calls are those of its module, parameters by their state-dict names."""

from __future__ import annotations

from opbench.conformance.comparing import run, same
from opbench.relations import Core, Example, Relation

ATTENTION, KERNEL = "get_weight.1.weight", "conv.0.weight"


def _equal_attention_cancels(core: Core, example: Example) -> None:
    """Softmax of k*k equal logits is 1 / k*k, whatever the logits."""
    drawn = example.tensors[ATTENTION]
    taps = example.options["kernel_size"] ** 2
    equal = drawn[::taps].repeat_interleave(taps, 0)
    expected = run(core, example.filled({ATTENTION: 0.0}))
    changed = example.replace(**{ATTENTION: equal})
    same(run(core, changed), expected, changed, "output where all taps of a channel have the same attention weight")


def _kernel_zero_is_flat(core: Core, example: Example) -> None:
    """Nothing of x is left: every pixel is what the bias becomes."""
    changed = example.filled({KERNEL: 0.0})
    out = run(core, changed)
    same(out, out[:1, :, :1, :1].expand_as(out), changed, "output under a kernel of zeros")


RELATIONS = (
    Relation(
        "equal-attention",
        "exact",
        "attention weights that are equal over the taps of a channel: the output doesn't depend on them",
        _equal_attention_cancels,
    ),
    Relation(
        "kernel-zero",
        "exact",
        "a kernel of zeros: all pixels of a channel are equal",
        _kernel_zero_is_flat,
    ),
)
