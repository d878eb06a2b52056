"""A user's module made ready to be looked into: its parameters drawn, in evaluation, built to its end."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from opbench.build import draw_parameters


class PreparedModule:
    """Makes such modules with `make`; `unbiased` ones without the biases that would hide a result."""

    def __init__(self, make: Callable[[int | None], nn.Module], unbiased: bool) -> None:
        self.make = make
        self.unbiased = unbiased
        self.by_calls = False  # whether the first call makes layers, so that the second is another pass

    def __call__(self, channels: int | None) -> nn.Module:
        """One with so many channels coming in, or as it is."""
        torch.manual_seed(0)
        module = self.make(channels)
        if not any(is_lazy(parameter) for parameter in module.parameters()):
            drawn(module, self.unbiased)
        for one in module.modules():  # full backward hooks make calls of their own, where gradients are asked for alone
            one._backward_hooks.clear()
            one._backward_pre_hooks.clear()
        return module.eval()

    def built(self, module: nn.Module, x: Tensor) -> nn.Module:
        """The same, with the layers that its first call makes, for images like this one."""
        if self.by_calls or any(is_lazy(parameter) for parameter in module.parameters()):
            with torch.no_grad():
                module(x)
            drawn(module, self.unbiased)
        return module


def drawn(module: nn.Module, unbiased: bool) -> None:
    """Draws parameters, so that no zero hides a branch; with `unbiased`, those of convolutions have no bias."""
    draw_parameters(module, torch.Generator().manual_seed(0))
    if not unbiased:
        return
    with torch.no_grad():
        for one in module.modules():
            weight, bias = getattr(one, "weight", None), getattr(one, "bias", None)
            if isinstance(weight, Tensor) and weight.ndim == 4 and isinstance(bias, Tensor):
                bias.zero_()
