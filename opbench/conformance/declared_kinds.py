"""What `opbench check` holds a target to by an operator's declaration alone: any operator of a slot, a user's too.

A module is constructed from channels and the operator's settings; a function takes the place of a core in the
operator's own module. Either is judged by the operator's definition, in evaluation and in training.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from opbench import constructors, registry
from opbench.build import draw_parameters
from opbench.conformance.cores import cores
from opbench.conformance.module_kinds import ModuleKind
from opbench.conformance.modules import ModuleTarget
from opbench.constructors import Settings
from opbench.schema import Implementation, Operator, Setting, Tensors
from opbench.tasks import SLOTS

CHANNELS = (8, 4, 16, 12)
OUTPUTS = (16, 8, 4, 12)
GROUPS = (2, 1, 4)


@dataclass(frozen=True, kw_only=True)
class Declared(ModuleKind):
    """The module of a declared operator: its settings are channels, outputs and groups as its task has, and its own."""

    @property
    def module(self) -> type[nn.Module]:
        """The class that the operator stands for; any where it names none."""
        return self.operator.classes[0] if self.operator.classes else nn.Module

    @property
    def published(self) -> str:
        """What the module is called."""
        return self.module.__name__ if self.operator.classes else self.operator.title

    def dims(self, settings: Settings, height: int = 4, width: int = 4, batch: int = 1) -> dict[str, Any]:
        """What the operator is called with at these settings."""
        own = {name: value for name, value in settings.items() if name not in ("channels", "training")}
        task = registry.tasks()[self.operator.task]
        sizes = {"N": batch, "C": settings["channels"], "H": height, "W": width}
        return self.operator.given(task.given({**sizes, **own}))

    def fits(self, settings: Settings) -> bool:
        """Whether the operator runs at these settings."""
        return self.operator.requires(self.dims(settings)) is None

    def sees(self, settings: Settings, height: int, width: int) -> bool:
        """Whether the operator runs at this size, too."""
        return self.operator.requires(self.dims(settings, height, width)) is None

    def malformed(self, asked: Settings) -> str:
        """What is wrong with a value that was asked for, whatever the definition; "" if nothing is."""
        known = {name: value for name, value in asked.items() if name in self.settings}
        for name, value in known.items():
            if isinstance(value, str) != isinstance(self.settings[name][0], str):
                expected = "a word" if isinstance(self.settings[name][0], str) else "a number, true or false"
                return f"{name}={value}: expected {expected}, as in {name}={self.settings[name][0]}"
        return ""

    def beyond(self, asked: Settings) -> str:
        """Its definition covers every value of a setting; `requires` says which don't go together."""
        known = {name: value for name, value in asked.items() if name in self.settings}
        settings = {name: known.get(name, values[0]) for name, values in self.settings.items()}
        return (self.operator.requires(self.dims(settings)) or "") if known else ""

    def default(self, name: str) -> Any:
        """The declared default of a setting, else the plainest value."""
        return self.operator.settings.get(name, self.settings[name][0])

    def construct(self, settings: Settings, implementation: Implementation | None = None) -> nn.Module:
        """The operator's own module."""
        first = next(iter(self.operator.implementations.values()))
        return self.operator.module(self.dims(settings), implementation or first)

    def parameters(self, settings: Settings, seed: int) -> dict[str, Tensor]:
        """Parameters, statistics and constants by name."""
        module = self.construct(settings).double()
        draw_parameters(module, torch.Generator().manual_seed(seed), self.operator.drawn)
        return {name: value for name, value in module.state_dict().items() if value.is_floating_point()}

    def buffers(self, settings: Settings) -> frozenset[str]:
        """What isn't differentiated by."""
        return frozenset(name for name, _ in self.construct(settings).named_buffers())


@dataclass(frozen=True)
class InPlace(ModuleTarget):
    """A user's function as the core of an operator's own module."""

    function: Callable[..., Tensor] | None = None

    def construct(self, settings: Settings) -> nn.Module:
        """The operator's module around the function."""
        if isinstance(self.kind, Declared):
            return self.kind.construct(settings, Implementation("yours", function=self.function))
        return self.kind.module(**settings, implementation=self.function)


def takes_a_core(kind: ModuleKind) -> bool:
    """Whether a function can take the place of the core in the operator's own module."""
    return isinstance(kind, Declared) or "implementation" in inspect.signature(kind.module).parameters


def names() -> list[str]:
    """The operators that a target can be held to as a module."""
    return sorted({name for task in SLOTS for name in registry.operators(task)})


def slot_operator(name: str) -> Operator:
    """The operator of that name that is a module: one in a slot of a network."""
    return next(found[name] for task in SLOTS if name in (found := registry.operators(task)))


def kind_named(name: str) -> ModuleKind:
    """The module of that name: as it declares its constructor, else at its slot's dimensions and its own settings."""
    operator = slot_operator(name)
    if operator.constructor is not None:
        return ModuleKind(operator=operator, **vars(operator.constructor))
    own: Mapping[str, tuple[Setting, ...]] = {
        setting: operator.draws.get(setting, (default, not default) if isinstance(default, bool) else (default,))
        for setting, default in operator.settings.items()
    }
    task = registry.tasks()[operator.task]
    shared: dict[str, tuple[int, ...]] = {"O": OUTPUTS} if "O" in task.defaults else {}
    shared |= {"G": GROUPS} if "G" in task.dims else {}

    def definition(settings: Settings, tensors: Tensors, training: bool) -> Tensor:
        batch, _, height, width = tensors["x"].shape
        return operator.definition(kind.dims(settings, height, width, batch), tensors, training)

    kind = Declared(
        operator=operator,
        settings={"channels": CHANNELS, **shared, **own},
        # Where a slot has O as well, `also_called` leaves open which channels these words mean: those that come in.
        aliases=dict.fromkeys(constructors.CHANNELS, "channels"),
        definition=definition,
        channels="channels",
    )
    return kind


def family(name: str) -> tuple[ModuleKind, ...]:
    """The modules that a person may mean by an operator's name: a core's is that of every module around it."""
    core = cores().get(name)
    if core is None:
        return (kind_named(name),)
    slots = [operator for task in SLOTS for operator in registry.operators(task).values()]
    # A name that stands in several slots is one module.
    called = dict.fromkeys(one.name for one in slots if one.name == name or one.counting is core.counting)
    return tuple(map(kind_named, called))
