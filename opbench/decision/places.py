"""The places of a network that operators compete for, and the suite that prices them: each distinct shape a workload.

The suite is a file like anybody's, so that the run's own commands repeat each row of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple

from torch import nn

from opbench import registry
from opbench.decision.nouns import OutOfReach, PlacesOfShape
from opbench.errors import nearest
from opbench.models.replacements import dims_at
from opbench.models.roles import ROLES
from opbench.models.selecting import matching, predicate
from opbench.models.sites import Call, Site, Size, arguments, functional_upsampling, trace
from opbench.models.slots import passed_over
from opbench.schema import Device, DType, OpbenchError, Operator, Task
from opbench.slug import slug
from opbench.suites import PEERS
from opbench.suites.text import suite_text
from opbench.tasks import CONV3X3, DOWNSAMPLE2X, UPSAMPLE2X

# What the places of a task are called among a network's slots (`opbench.models.SLOTS`).
SLOT_OF_TASK: Mapping[str, str] = {
    UPSAMPLE2X.name: "upsample",
    CONV3X3.name: "conv3x3",
    DOWNSAMPLE2X.name: "downsample2x",
}
# Module names that a workload's source lists.
NAMED = 6


class FoundPlaces(NamedTuple):
    """The places of each slot by shape, and what no contender can take and why."""

    places: tuple[PlacesOfShape, ...]
    left_out: tuple[OutOfReach, ...]


class Competing(NamedTuple):
    """The contenders of a task as a suite names them (none: all), and the operators that nothing here computes."""

    contenders: tuple[str, ...]
    missing: tuple[OutOfReach, ...] = ()


def find(
    model: nn.Module,
    target: str,
    size: Size,
    *,
    batch: int = 1,
    tasks: Sequence[str] = (),
    roles: Sequence[str] = (),
    where: str | None = None,
) -> FoundPlaces:
    """The places of the asked tasks (none: every slot's) in a network that takes images of `size`.

    `roles` and `where` narrow them as in a swap. Raises OpbenchError for an unknown task or role, for a network that
    can't be called so, and where there is no such place.
    """
    for name in tasks:
        if name not in SLOT_OF_TASK:
            raise OpbenchError(f"--task: {nearest('task of a network', name, SLOT_OF_TASK)}")
    for name in roles:
        if name not in ROLES:
            raise OpbenchError(f"--role: {nearest('role', name, ROLES)}")
    asked = [registry.tasks()[name] for name in SLOT_OF_TASK if not tasks or name in tasks]
    called_with = arguments(model, None, size)
    places: list[PlacesOfShape] = []
    left_out: list[OutOfReach] = []
    shape = "x".join(map(str, size[-2:]))
    for task in asked:
        wanted = matching(model, "@".join((SLOT_OF_TASK[task.name], *roles)), where)
        sites, _ = trace(model, wanted, called_with)
        why = {site.name: _unfit(task.name, site) for site in sites}
        fitting = [site for site in sites if not why[site.name]]
        for reason in dict.fromkeys(filter(None, why.values())):
            names = [site.name for site in sites if why[site.name] == reason]
            left_out.append(OutOfReach(_shown(names), reason))
        places += _by_shape(task, fitting, batch, f"{target} at {shape}")
    left_out += _not_reached(model, size, {task.name for task in asked}, roles, where)
    if not places:
        kinds = " or ".join(task.name for task in asked)
        narrowed = "".join([*(f" in the role {role}" for role in roles), f" where {where!r}" if where else ""])
        others = "; ".join(f"{one.what}: {one.why}" for one in left_out)
        raise OpbenchError(f"{target}: no place of {kinds}{narrowed} at {shape}{f': {others}' if others else ''}")
    return FoundPlaces(tuple(places), tuple(left_out))


def _unfit(task: str, site: Site) -> str:
    """Why no contender of the task can stand there, or nothing."""
    if not site.calls:
        return "a call of the network doesn't reach it"
    try:
        if task == UPSAMPLE2X.name and site.upsampling() != 2:
            return f"it upsamples by {site.upsampling()}, and contenders by 2"
        if task == DOWNSAMPLE2X.name and not site.halves:
            return "it doesn't halve its image"
        if task != DOWNSAMPLE2X.name:
            _ = site.channels
    except OpbenchError as error:
        return str(error).partition(" can't be swapped: ")[2] or str(error)
    return ""


def _by_shape(task: Task, sites: Sequence[Site], batch: int, about: str) -> Iterator[PlacesOfShape]:
    """One workload for each shape that a module of the slot meets; a module counts where it is called first."""
    met: dict[tuple[int, ...], list[tuple[Site, Call]]] = {}
    for site in sites:
        for call in site.calls:
            met.setdefault((*call.shape_in[1:], call.shape_out[1]), []).append((site, call))
    for (channels, height, width, outputs), calls in met.items():
        first = [site for site, call in calls if call is site.calls[0]]
        names = list(dict.fromkeys(site.name for site, _ in calls))
        times = "1 call" if len(calls) == 1 else f"{len(calls)} calls"
        sides = (*((batch,) if batch > 1 else ()), channels, height, width)
        yield PlacesOfShape(
            task=task.name,
            workload="x".join(map(str, sides)) + (f"-to-{outputs}" if outputs != channels else ""),
            dims=dims_at(task, batch, channels, height, width, outputs),
            names=tuple(names),
            modules=len(first),
            calls=len(calls),
            source=f"{about}, {times}: {_shown(names)}",
        )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _not_reached(
    model: nn.Module, size: Size, tasks: set[str], roles: Sequence[str], where: str | None
) -> Iterator[OutOfReach]:
    """What looks like a place of the slot and is none."""
    if UPSAMPLE2X.name in tasks:
        for name in functional_upsampling(model, size=size):
            yield OutOfReach(name, "it calls torch.nn.functional.interpolate inside a forward, which no swap reaches")
    if CONV3X3.name in tasks:
        with_role = predicate("@".join(("*", *roles)), model)
        named = predicate(where if where is not None else "*", model)
        inside = passed_over(model, lambda name, module: with_role(name, module) and named(name, module))
        for reason, count in inside.items():
            if reason == "of stride 2" and DOWNSAMPLE2X.name in tasks:
                continue
            kinds = "convolution" if count == 1 else "convolutions"
            yield OutOfReach(f"{count} 3x3 {kinds} {reason}", "not the slot conv3x3")


# --- The suite ----------------------------------------------------------------------------------------------------


def suite_name(target: str) -> str:
    """`yolo11n` of `yolo11n.yaml`, `my-net-build` of `nets/my_net.py:build`."""
    if target.endswith((".yaml", ".yml")):
        return slug(PurePath(target).stem)
    source, _, name = target.rpartition(":")
    stem = PurePath(source).stem if source.endswith(".py") else source.rpartition(".")[2]
    return slug(f"{stem} {name}")


def competing(task: str, device: Device, dtype: DType) -> Competing:
    """Each operator of a task by one implementation: the one that `auto` takes on this device in this dtype."""
    found, missing = [], []
    baseline = registry.tasks()[task].baseline
    for operator in registry.operators(task).values():
        chosen = _implementation(operator, device, dtype)
        if chosen is None:
            missing.append(OutOfReach(operator.name, f"no implementation of it runs here on {device} in {dtype}"))
        else:
            found.append(f"{operator.name}[{chosen}]")
    return Competing((baseline, *(name for name in found if name != baseline)), tuple(missing))


def _implementation(operator: Operator, device: Device, dtype: DType) -> str | None:
    table = operator.implementations
    order = [table[name] for name in operator.preferred if name in table]
    order += [one for one in table.values() if one not in order]
    able = (one for one in order if device in one.devices and dtype in one.dtypes and one.missing() is None)
    return next((one.name for one in able), None)


def suite(
    title: str,
    places: Sequence[PlacesOfShape],
    contenders: Mapping[str, Sequence[str]],
    *,
    dtype: DType,
    device: Device,
    mode: str,
    spread: float,
) -> str:
    """The TOML of a suite: a workload for each shape. A task without `contenders` has all of its."""
    defaults = {"dtypes": [dtype], "devices": [device], "modes": [mode], "spreads": [spread]}
    # One implementation of each was chosen: installed packages' others don't join it.
    competing = {task: [*names, f"-{PEERS}"] for task, names in contenders.items() if names}
    workloads = (
        {"task": place.task, "name": place.workload, "source": place.source, "dims": place.dims} for place in places
    )
    return suite_text(
        title,
        ("[defaults]", defaults),
        ("[contenders]", competing),
        *(("[[workload]]", workload) for workload in workloads),
    )
