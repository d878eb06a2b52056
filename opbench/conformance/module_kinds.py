"""A published module: the class that an operator stands for, at any arguments of its constructor."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from opbench.build import draw_parameters
from opbench.constructors import Constructor, Settings
from opbench.schema import Operator

DIMENSIONS = ("N", "H", "W")


@dataclass(frozen=True, kw_only=True)
class ModuleKind(Constructor):
    """What a module is judged as: the operator that declares it, and its constructor."""

    operator: Operator

    @property
    def name(self) -> str:
        """The operator's."""
        return self.operator.name

    @property
    def module(self) -> type[nn.Module]:
        """The class that the operator stands for."""
        return self.operator.classes[0]

    @property
    def published(self) -> str:
        """What the module is called."""
        return self.module.__name__

    def received(self, settings: Settings) -> int:
        """How many channels come in at these settings."""
        return int(settings[self.inputs or self.channels])

    def buffers(self, settings: Settings) -> frozenset[str]:
        """The names in its state dict that a call isn't differentiated by."""
        return frozenset(name for name, _ in self.module(**settings).named_buffers())

    def fits(self, settings: Settings) -> bool:
        """Whether the module is defined at these settings."""
        if self.groups is not None and settings[self.channels] % settings[self.groups]:
            return False
        return not (settings.get("remove_center") and settings["kernel_size"] == 1)

    def sees(self, settings: Settings, height: int, width: int) -> bool:
        """Whether the module is defined on images of this size."""
        return height % self.blocks == width % self.blocks == 0

    def malformed(self, asked: Settings) -> str:
        """What is wrong with a value that was asked for, whatever the definition; "" if nothing is."""
        for name, value in asked.items():
            drawn = self.settings.get(name, ())
            counts = name in DIMENSIONS or (drawn and type(drawn[0]) is int)
            if counts and (type(value) is not int or value < 1):
                return f"{name}={value}: expected an integer of at least 1"
            if drawn and isinstance(value, str) and not isinstance(drawn[0], str):
                return f"{name}={value}: expected a number, true or false"
        return ""

    def beyond(self, asked: Settings) -> str:
        """Why the definition can't judge a module for which these of its arguments were asked; "" if it can."""
        published = inspect.signature(self.module).parameters
        for name, value in asked.items():
            drawn = self.settings.get(name, ())
            if len(drawn) == 1 and value != drawn[0]:
                return f"{name}={value}: the definition of {self.module.__name__} has {name}={drawn[0]} only"
            if name not in self.settings and name in published and value != published[name].default:
                return f"{name}={value}: the definition of {self.module.__name__} has no {name} to choose"
        return ""

    def default(self, name: str) -> Any:
        """What a setting is where the constructor at hand has no argument for it: as published, else the plainest."""
        published = inspect.signature(self.module).parameters[name].default
        return self.settings[name][0] if published is inspect.Parameter.empty else published

    def construct(self, settings: Settings) -> nn.Module:
        """The published module at these settings."""
        return self.module(**settings)

    def parameters(self, settings: Settings, seed: int) -> dict[str, Tensor]:
        """Parameters and running statistics by name, float64, drawn so that none is degenerate."""
        module = self.construct(settings).double()
        draw_parameters(module, torch.Generator().manual_seed(seed))
        return {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
