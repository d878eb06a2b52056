"""What takes a place in a model: CARAFE's and DCNv3's modules, any operator that competes there, or a user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import nn

from opbench import registry
from opbench.errors import nearest
from opbench.models.sites import Site
from opbench.operators.common.choice import Core
from opbench.schema import Implementation, OpbenchError, Operator
from opbench.tasks import SLOTS, groups

With: TypeAlias = type[nn.Module] | Callable[[Site], nn.Module] | str
Builder: TypeAlias = Callable[[Site], nn.Module]


def builder(with_: With, implementation: str | Core) -> Builder:
    """Site -> module. Raises OpbenchError for an unknown name, or an implementation that nobody would receive."""
    kind = published().get(with_) if isinstance(with_, str) else with_
    if isinstance(kind, type):
        by_class = {one: found for found in operators().values() if found.replaces for one in found.classes}
        known = next((by_class[base] for base in kind.__mro__ if base in by_class), None)
        if known is not None and known.replaces is not None:
            replaces = known.replaces
            return lambda site: replaces(kind, site, implementation)
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
    """What competes for the place of an upsampler or of a 3x3 convolution, by name."""
    return {name: operator for task in SLOTS for name, operator in registry.operators(task).items()}


def published() -> dict[str, type[nn.Module]]:
    """By name, the classes of those that say themselves how they take a place."""
    return {name: operator.classes[0] for name, operator in operators().items() if operator.replaces}


def _of_operator(name: str, implementation: str | Core) -> Builder:
    known = operators()
    if name not in known:
        raise OpbenchError(registry.unknown_operator("operator", name, known))
    operator = known[name]
    if implementation != "auto" and implementation not in operator.implementations:
        raise OpbenchError(f"{name}: {nearest('implementation', str(implementation), operator.implementations)}")

    def build(site: Site) -> nn.Module:
        if operator.task == "upsample2x" and site.upsampling() != 2:
            raise site.refused(f"{name} upsamples by 2, the module there by {site.upsampling()}")
        if operator.task == "conv3x3" and site.window() != (3, 1):
            raise site.refused(f"{name} has a 3x3 window without dilation, got (k, d) = {site.window()}")
        channels = site.channels
        N, _, H, W = site.calls[0].shape_in
        dims = dims_of(operator, N, channels, H, W)
        reason = operator.requires(dims)
        if reason is not None:
            raise site.refused(reason)
        try:
            return operator.module(dims, resolved(operator, str(implementation), site.calls[0].device.type))
        except OpbenchError as error:
            raise site.refused(str(error)) from error

    return build


def dims_of(operator: Operator, batch: int, channels: int, height: int, width: int) -> dict[str, Any]:
    """What an operator is called with at a place of this size; where its task has groups, as many as DCNv3 has."""
    task = registry.tasks()[operator.task]
    sizes = {**task.defaults, "N": batch, "C": channels, "H": height, "W": width}
    return operator.given({**sizes, "G": groups(channels)} if "G" in task.dims else sizes)


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
