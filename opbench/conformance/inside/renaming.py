"""A module whose parameters are those of the operator's own under other names: found by their order and shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from opbench.conformance.fitting import as_kind, plainest_first
from opbench.conformance.module_kinds import ModuleKind
from opbench.conformance.modules import ModuleTarget, shapes
from opbench.conformance.raised import WHAT_A_TARGET_RAISES
from opbench.conformance.strategies import noise
from opbench.conformance.target import TargetName, Value
from opbench.constructors import Settings
from opbench.schema import OpbenchError

# Of the largest value, in float64: another epsilon in a norm changes more.
ABOUT = 1e-9


@dataclass(frozen=True)
class RenamedTarget(ModuleTarget):
    """A user's module whose parameters have other names: `own` gives the user's for each of the operator's.

    A `turned` one takes and gives images channels first where the operator's own has them last, or the reverse.
    """

    own: Mapping[str, str] = field(default_factory=dict)
    turned: bool = False

    def construct(self, settings: Mapping[str, Any]) -> nn.Module:
        """The module at these settings, as the operator's own names it."""
        made = super().construct(settings)
        own = self.own or {name: name for name in made.state_dict()}
        return _Under(made, own, self.kind.channels_last if self.turned else None)

    @property
    def otherwise_laid_out(self) -> str:
        """Said of a turned one."""
        if not self.turned:
            return ""
        return ", channels first" if self.kind.channels_last else ", channels last"

    def told(self) -> str:
        """The renaming, so that weights can be loaded across."""
        pairs = ", ".join(f"{theirs} = {own}" for own, theirs in self.own.items())
        return f"{self.target.name} computes {self.kind.published} under other names: {pairs}"


class _Under(nn.Module):
    """A module under other names: its state dict, its parameters and its buffers are asked for by the operator's.

    With `from_last`, images come with their channels last and the module takes them first; with False it is the other
    way round; with None it takes them as they come.
    """

    def __init__(self, module: nn.Module, own: Mapping[str, str], from_last: bool | None = None) -> None:
        super().__init__()
        self.from_last = from_last
        self.inner = (module,)  # in a tuple it is no part: it holds nothing under its own names
        self.own = own
        held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        for name, theirs in own.items():
            *path, last = name.split(".")
            parent: nn.Module = self
            for part in path:
                if part not in dict(parent.named_children()):
                    parent.add_module(part, nn.Module())
                parent = getattr(parent, part)
            value = held[theirs]
            if isinstance(value, nn.Parameter):
                parent.register_parameter(last, value)
            else:
                parent.register_buffer(last, value)

    def train(self, mode: bool = True) -> _Under:
        self.inner[0].train(mode)
        return super().train(mode)

    def forward(self, x: Tensor) -> Any:
        held = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        theirs = {self.own[name]: value for name, value in held.items()}
        if self.from_last is None:
            return torch.func.functional_call(self.inner[0], theirs, (x,))
        out = torch.func.functional_call(self.inner[0], theirs, (_turned(x, to_first=self.from_last),))
        return tree_map_only(Tensor, lambda one: _turned(one, to_first=not self.from_last), out)


def _turned(image: Tensor, *, to_first: bool) -> Tensor:
    if image.ndim != 4:
        return image
    return image.permute(0, 3, 1, 2) if to_first else image.permute(0, 2, 3, 1)


def as_it_is_called(candidate: ModuleTarget) -> ModuleTarget:
    """A module that fits by name, with its channels where it takes them."""
    settings = next(plainest_first(candidate), None)
    if settings is None or _called(candidate, settings) is not None:
        return candidate
    values = {one.name: getattr(candidate, one.name) for one in dataclasses.fields(candidate)}
    other = RenamedTarget(**values, turned=True)
    return other if _called(other, settings) is not None else candidate


def renamed(
    target: TargetName,
    found: type[nn.Module] | nn.Module,
    family: Sequence[ModuleKind],
    given: Mapping[str, Value],
    fixed: Mapping[str, Value],
) -> RenamedTarget | None:
    """The module as the first kind of the family that it is under other names; None where it is none of them."""
    for kind in family:
        try:
            plain = as_kind(target, found, kind, given, fixed)
            settings = next(plainest_first(plain))
            theirs = shapes(plain.constructed(settings, image_for(kind, settings)).state_dict())
            own = shapes(kind.parameters(settings, 0))
        except (OpbenchError, StopIteration, *WHAT_A_TARGET_RAISES):
            continue
        names = _paired(own, theirs)
        if names is None or names == {name: name for name in names}:
            continue
        values = {one.name: getattr(plain, one.name) for one in dataclasses.fields(plain)}
        for turned in (False, True):
            candidate = RenamedTarget(**values, own=names, turned=turned)
            if computes_its_kind(candidate, settings):
                return candidate
    return None


def image_for(kind: ModuleKind, settings: Settings) -> Tensor:
    """A small image of the channels that the module takes."""
    channels = kind.received(settings)
    return noise((1, 6, 7, channels) if kind.channels_last else (1, channels, 6, 7), 1)


def computes_its_kind(candidate: ModuleTarget, settings: Settings) -> bool:
    """Whether one call in evaluation, in float64, is what its kind's definition gives."""
    called = _called(candidate, settings)
    if called is None:
        return False
    got, expected = called
    return bool((got - expected).abs().max() <= ABOUT * expected.abs().max())


def _called(candidate: ModuleTarget, settings: Settings) -> tuple[Tensor, Tensor] | None:
    """What one call in evaluation, in float64, gives, and what its kind's definition gives.

    None where it raises, or gives no image of that size.
    """
    kind, x = candidate.kind, image_for(candidate.kind, settings)
    try:
        parameters = kind.parameters(settings, 0)
        with torch.no_grad():
            expected = kind.definition(settings, {"x": x, **parameters}, False)
            got = candidate(x=x, **parameters, **settings, training=False)
            return (got, expected) if got.shape == expected.shape else None
    except WHAT_A_TARGET_RAISES:
        return None


def _paired(own: Mapping[str, tuple[int, ...]], theirs: Mapping[str, tuple[int, ...]]) -> dict[str, str] | None:
    """The other's names in order, those of each shape by themselves; None where the shapes differ."""
    if sorted(own.values()) != sorted(theirs.values()):
        return None
    waiting: dict[tuple[int, ...], list[str]] = {}
    for name, size in theirs.items():
        waiting.setdefault(size, []).append(name)
    return {name: waiting[size].pop(0) for name, size in own.items()}
