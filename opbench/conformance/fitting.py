"""A module taken for the published one: arguments by name and meaning, then its state dict at the plainest settings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from opbench.conformance.meaning import CHANNELS_OUT, matched, plain
from opbench.conformance.module_kinds import DIMENSIONS, ModuleKind
from opbench.conformance.modules import ModuleTarget, difference, shapes
from opbench.conformance.promised import unset as needed
from opbench.conformance.raised import WHAT_A_TARGET_RAISES
from opbench.conformance.target import TargetName, Value
from opbench.constructors import Settings
from opbench.errors import nearest, said, text_of
from opbench.schema import OpbenchError


class UnsetArgumentsError(OpbenchError):
    """A constructor needs arguments that nobody gave and whose meaning can't be told from their names."""


def module_target(
    target: TargetName,
    found: type[nn.Module] | nn.Module,
    family: Sequence[ModuleKind],
    given: Mapping[str, Value],
    fixed: Mapping[str, Value],
) -> ModuleTarget | str:
    """The module as the kind of its family whose state dict it has; if it has none of theirs, what the nearest lacks.

    `given` are constructor arguments by the module's own names, `fixed` settings by the published ones. A setting that
    the constructor doesn't take stays as published. OpbenchError for what its definition does not cover.
    """
    candidates = []
    for kind in family:
        try:
            candidates.append(as_kind(target, found, kind, given, fixed))
        except OpbenchError:
            if kind is family[-1] and not candidates:
                raise
    for one in candidates:
        malformed = one.kind.malformed({**one.given, **one.fixed})
        if malformed:
            raise OpbenchError(f"target {target.text!r}: {malformed}")
    reasons = {unfit(one): one for one in reversed(candidates)}
    nearest_reason = "" if "" in reasons else min(reasons, key=lambda reason: reason.count(","))
    chosen = reasons[nearest_reason]
    why = chosen.kind.beyond({**chosen.given, **chosen.fixed})
    if why:
        raise OpbenchError(f"target {target.text!r}: {why}")
    return nearest_reason or chosen


def as_kind(
    target: TargetName,
    found: type[nn.Module] | nn.Module,
    kind: ModuleKind,
    given: Mapping[str, Value],
    fixed: Mapping[str, Value],
) -> ModuleTarget:
    """The module as one kind, by its constructor's arguments. OpbenchError where they don't say enough."""
    unknown = [name for name in fixed if name not in {*kind.settings, *kind.aliases, *DIMENSIONS}]
    if unknown:
        raise OpbenchError(f"--fix: {nearest('setting', unknown[0], kind.settings)}")
    held = {kind.aliases.get(name, name) if name not in kind.settings else name: v for name, v in fixed.items()}
    if isinstance(found, nn.Module):
        if given:
            raise OpbenchError(f"--arg: {target.name} is constructed already; its settings go with --fix")
        for name in kind.settings:
            own_value = getattr(found, name, None)
            held.setdefault(name, own_value if isinstance(own_value, int | float) else kind.default(name))
        return ModuleTarget(target, found, kind, {}, {}, held)
    parameters = inspect.signature(found).parameters
    kinds = inspect.Parameter
    takes_any = any(parameter.kind is kinds.VAR_KEYWORD for parameter in parameters.values())
    own = list(_arguments(found))
    given = {**needed(found, kind.supplied), **given}
    strangers = [name for name in given if name not in own]
    if strangers and not takes_any:
        raise OpbenchError(f"--arg: {nearest(f'argument of {target.name}', strangers[0], own)}")
    settings = {*kind.settings, *kind.derived({name: v[0] for name, v in kind.settings.items()})}
    names = {name: name for name in settings if name in own or (takes_any and not own)}
    for alias, name in kind.aliases.items():
        if alias in own and name not in names and alias not in settings:
            names[name] = alias
    open_names = [name for name in own if name not in names.values()]
    names.update(matched(open_names, [name for name in settings if name not in names]))
    # Where the kind has no such setting, as many channels go out as come in.
    tied = {
        name: kind.channels
        for name in own
        if plain(name) in CHANNELS_OUT and parameters[name].default is kinds.empty
        and name not in names.values() and name not in given
    }  # fmt: skip
    of_own = {own_name: name for name, own_name in names.items()}
    held.update({of_own[name]: value for name, value in given.items() if name in of_own})
    unset = [name for name in own if parameters[name].default is kinds.empty and name not in {*of_own, *tied, *given}]
    if unset:
        options = " ".join(f"--arg {name}=VALUE" for name in unset)
        raise UnsetArgumentsError(
            f"target {target.text!r}: not judged: {target.name}{inspect.signature(found)} needs {', '.join(unset)}: "
            f"add {options}"
        )
    for name in kind.settings:
        if name not in names:
            held.setdefault(name, kind.default(name))
    return ModuleTarget(target, found, kind, names, given, held, tied)


def unfit(candidate: ModuleTarget) -> str:
    """What its state dict lacks of its kind's, at the plainest settings that it can be made with; "" if nothing."""
    kind = candidate.kind
    reason = f"{kind.published} is not defined at what is fixed"
    for settings in plainest_first(candidate):
        channels = kind.received(settings)
        x = torch.ones((1, 6, 6, channels) if kind.channels_last else (1, channels, 6, 6))
        try:
            module = candidate.constructed(settings, x)
        except WHAT_A_TARGET_RAISES as error:
            reason = text_of(error) if isinstance(error, NotImplementedError) else said(error)
            continue
        try:
            expected = kind.parameters(settings, 0)
        except WHAT_A_TARGET_RAISES:  # an operator's own module at settings that were given: the drawing says so
            return ""
        return difference(shapes(module.state_dict()), shapes(expected), kind.published)
    return reason


def plainest_first(candidate: ModuleTarget) -> Iterator[Settings]:
    """The plainest settings, and those that differ from them in one: a constructor may refuse some."""
    drawn, fixed = candidate.kind.settings, candidate.fixed
    plainest = {name: fixed.get(name, values[0]) for name, values in drawn.items()}
    changed = [{name: value} for name, values in drawn.items() if name not in fixed for value in values[1:]]
    for change in ({}, *changed):
        settings = candidate.kind.derived({**plainest, **change})
        if candidate.kind.fits(settings):
            yield settings


def unchecked(candidate: ModuleTarget) -> tuple[str, ...]:
    """What of a module's settings a check leaves as it is, each in a clause."""
    if isinstance(candidate.made_from, nn.Module):
        return ("other settings than this instance's",)
    held = [name for name in candidate.kind.settings if name not in candidate.names]
    notes = [f"{name}: {candidate.target.name} has no such argument; held at {candidate.fixed[name]}" for name in held]
    taken = {*candidate.names.values(), *candidate.tied, *candidate.given}
    own = _arguments(candidate.made_from)
    left = [f"{name}={one.default!r}" for name, one in own.items() if name not in taken]
    return (*notes, *([f"other values of {', '.join(left)}"] if left else []))


def _arguments(kind: type[nn.Module]) -> dict[str, inspect.Parameter]:
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {name: one for name, one in inspect.signature(kind).parameters.items() if one.kind not in variable}
