"""Contenders that do to a CUDA device what costs a process its context, or more memory than there is."""

import torch

from opbench.operators.carafe.cores import unfold
from opbench.registry import register_implementation


@register_implementation("carafe_core", "carafe", "asserts", devices=("cuda",))
def asserts(x, mask, **settings):
    """An index out of bounds: after it nothing works on the device in this process."""
    beyond = torch.full((1,), 1 << 20, device=x.device)
    return unfold(x, mask, **settings) + torch.zeros(4, device=x.device)[beyond]


@register_implementation("carafe_core", "carafe", "floods", devices=("cuda",))
def floods(x, mask, **settings):
    """More than any device has."""
    torch.empty(1 << 50, dtype=torch.int8, device=x.device)
    return unfold(x, mask, **settings)


@register_implementation("carafe_core", "carafe", "asks", devices=("cuda",))
def asks(x, mask, **settings):
    """Right, but waits for the device in the middle: no graph can hold it."""
    assert x.sum().item() == x.sum().item()
    return unfold(x, mask, **settings)


@register_implementation("carafe_core", "carafe", "wrong", devices=("cuda",))
def wrong(x, mask, **settings):
    """One element is off."""
    out = unfold(x, mask, **settings).clone()
    out[-1, -1, -1, -1] += 1
    return out
