"""What takes a place in a model: CARAFE's and DCNv3's modules, any operator that competes there, or a user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

from torch import nn

from opbench import registry
from opbench.errors import nearest
from opbench.models.sites import Shape, Site
from opbench.operators.common.choice import Core
from opbench.schema import Implementation, OpbenchError, Operator, Task
from opbench.tasks import DOWNSAMPLE2X, SLOTS, groups

With: TypeAlias = type[nn.Module] | Callable[[Site], nn.Module] | str
Builder: TypeAlias = Callable[[Site], nn.Module]


def builder(with_: With, implementation: str | Core) -> Builder:
    """Site -> module. Raises OpbenchError for an unknown name, or an implementation that nobody would receive."""
    kind = published().get(with_) if isinstance(with_, str) else with_
    if isinstance(kind, type):
        by_class = {one: found for found in operators().values() for one in found.classes}
        known = next((by_class[base] for base in kind.__mro__ if base in by_class), None)
        if known is not None and known.replaces is None and kind is known.classes[0]:
            return _of_operator(known.name, implementation)
        if known is not None and known.replaces is not None:
            replaces, name = known.replaces, known.name
            at_half_size = registry.operators(DOWNSAMPLE2X.name).get(name)
            if at_half_size is None or kind is not known.classes[0]:
                return lambda site: replaces(kind, site, implementation)
            others = _of_operator(name, implementation)
            return lambda site: others(site) if site.halves else replaces(kind, site, implementation)
    if isinstance(with_, str):
        return _of_operator(with_, implementation)
    if implementation != "auto":
        raise OpbenchError(
            f"{getattr(with_, '__name__', with_)}: it takes no implementation, got {implementation!r}: "
            f"choose it inside, as in lambda site: Mine(site.channels, implementation=...)"
        )
    if isinstance(with_, type):
        return lambda site: with_(site.channels)
    if not callable(with_):
        raise OpbenchError(
            f"with_: expected a module class, a function of the site or an operator's name, got {with_!r}"
        )
    return with_


# --- Any other operator that competes in the place --------------------------------------------------------------


def operators() -> dict[str, Operator]:
    """What competes for a place in a network, by name: in the first slot, where it is in several."""
    return {name: operator for task in reversed(SLOTS) for name, operator in registry.operators(task).items()}


def suited(name: str, shape_in: Shape, shape_out: Shape) -> Operator:
    """The operator of that name whose task is such a place: several tasks may have one."""
    halved = shape_out[2] < shape_in[2]
    tasks = (DOWNSAMPLE2X.name, *SLOTS) if halved else SLOTS
    return next(found[name] for task in tasks if name in (found := registry.operators(task)))


def published() -> dict[str, type[nn.Module]]:
    """By name, the classes of those that say themselves how they take a place."""
    return {name: operator.classes[0] for name, operator in operators().items() if operator.replaces}


def _of_operator(name: str, implementation: str | Core) -> Builder:
    known = operators()
    if name not in known:
        raise OpbenchError(registry.unknown_operator("operator", name, known))
    table = known[name].implementations
    if implementation != "auto" and implementation not in table:
        raise OpbenchError(f"{name}: {nearest('implementation', str(implementation), table)}")

    def build(site: Site) -> nn.Module:
        operator = suited(name, site.calls[0].shape_in, site.calls[0].shape_out)
        if operator.task == "upsample2x" and site.upsampling() != 2:
            raise site.refused(f"{name} upsamples by 2, the module there by {site.upsampling()}")
        if operator.task == "conv3x3" and site.window() != (3, 1):
            raise site.refused(f"{name} has a 3x3 window without dilation, got (k, d) = {site.window()}")
        if operator.task == DOWNSAMPLE2X.name and not site.halves:
            shapes = ", ".join(f"{call.shape_in} -> {call.shape_out}" for call in site.calls)
            raise site.refused(f"{name} halves height and width, the module there makes {shapes}")
        channels = site.in_channels if operator.task == DOWNSAMPLE2X.name else site.channels
        N, _, H, W = site.calls[0].shape_in
        dims = dims_of(operator, N, channels, H, W, site.out_channels)
        reason = operator.requires(dims)
        if reason is not None:
            raise site.refused(reason)
        chosen = resolved(operator, str(implementation), site.calls[0].device.type)
        try:
            module = operator.module(dims, chosen)
            return choosing(module) if implementation == "auto" else module
        except OpbenchError as error:
            raise site.refused(str(error)) from error

    return build


def choosing(module: nn.Module) -> nn.Module:
    """The module, its parts choosing their core at each call as they do by themselves: when moved, or exported."""
    for part in module.modules():
        choice = inspect.signature(type(part)).parameters.get("implementation")
        if choice is not None and choice.default == "auto" and hasattr(part, "implementation"):
            part.implementation = "auto"  # type: ignore[assignment]
    return module


def dims_of(operator: Operator, batch: int, channels: int, height: int, width: int, outputs: int) -> dict[str, Any]:
    """What an operator is called with at a place of this size."""
    return operator.given(dims_at(registry.tasks()[operator.task], batch, channels, height, width, outputs))


def dims_at(task: Task, batch: int, channels: int, height: int, width: int, outputs: int) -> dict[str, int]:
    """The dimensions that a task has at a place of this size; where it has groups, as many as DCNv3 has."""
    sizes = {"N": batch, "C": channels, "H": height, "W": width}
    sizes |= {"O": outputs} if "O" in task.defaults else {}
    sizes |= {"G": groups(outputs)} if "G" in task.dims else {}
    return task.given(sizes)


def resolved(operator: Operator, implementation: str, device: str) -> Implementation:
    """The implementation that a name stands for on a device type; "auto" is what the operator's own modules take.

    Raises OpbenchError where it is unknown or can't run.
    """
    table = operator.implementations
    if implementation not in ("auto", *table):
        raise OpbenchError(f"{operator.name}: {nearest('implementation', implementation, table)}")
    order = [table[name] for name in operator.preferred if name in table] or list(table.values())
    among = order if implementation == "auto" else table.values()
    able = [one for one in among if device in one.devices and one.missing() is None]
    chosen = next((one for one in able if implementation in ("auto", one.name)), None)
    if chosen is None:
        why = table[implementation].missing() if implementation in table else None
        raise OpbenchError(f"{operator.name}[{implementation}] doesn't run on {device} here{f': {why}' if why else ''}")
    return chosen
