"""Suites are data: TOML files that list workloads with their sources. Adding a workload is three lines.

Contenders are named as `carafe` (all implementations), `carafe[triton]`, or `carafe[mmcv]?`: a package's operator, that
competes where the package is installed. `*` is every operator that the list doesn't name, `-carafe` one to be left out:
so a new operator competes unless it is. `-pasted` leaves out a group (GROUPS) at once. An installed package's operator
competes wherever its operator is listed: `-carafe[mmcv]` leaves out one, `-peers` all of them.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from opbench.declarations import settings_of
from opbench.errors import nearest
from opbench.registry import operators, tasks, unknown_operator
from opbench.runtimes import RUNTIMES
from opbench.schema import (
    DEFAULT_MEMORY_FORMAT,
    DEFAULT_RUNTIME,
    DEVICES,
    DTYPES,
    MEMORY_FORMATS,
    MODES,
    OpbenchError,
    Setting,
    Suite,
    Target,
    Task,
    Workload,
    spread_part,
)

# Operators of pasted modules: in the suites of the networks that they are pasted into (yolo11, yolo26, rtdetr), and
# left out of those that are about CARAFE and DCNv3, which would take too long with them. `--operator NAME` adds one.
GROUPS = {
    "pasted": ("dysample", "eucb", "dcnv4", "rfaconv", "ldconv", "odconv", "snake", "gsconv", "vov-gsconv", "pconv"),
}

# Compiled operators of installed packages (torchvision, mmcv, ...) compete beside what a suite lists of their operator.
# `-peers` leaves them out of a suite whose question they are no part of; `--implementation NAME` adds one.
PEERS = "peers"

_FOLDER = Path(__file__).parent
_CHOICES = {"dtypes": DTYPES, "devices": DEVICES, "modes": MODES, "memory_formats": MEMORY_FORMATS}
_WHOLE = ("least_rounds", "replicas")
_DEFAULTS: Mapping[str, Any] = {
    "dtypes": ("float32",),
    "devices": DEVICES,
    "modes": MODES,
    # A fresh module has zero offsets, which flatters every deformable operator; trained offsets are not zero.
    "spreads": (2.0,),
    "runtimes": (DEFAULT_RUNTIME,),
    "memory_formats": (DEFAULT_MEMORY_FORMAT,),
}


def names() -> tuple[str, ...]:
    """The names of the built-in suites."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load(name_or_path: str) -> Suite:
    """Reads a built-in suite by name, or a suite file by its path (`my_suite.toml`)."""
    path = Path(name_or_path)
    if path.suffix == ".toml":
        if not path.is_file():
            raise OpbenchError(f"suite file {name_or_path}: no such file")
    elif name_or_path in names():
        path = _FOLDER / f"{name_or_path}.toml"
    else:
        raise OpbenchError(nearest("suite", name_or_path, names()) + "; a suite of your own is given as FILE.toml")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OpbenchError(f"suite file {path}: cannot be read: {error}") from error
    return parse(text, path.stem, where=str(path))


def parse(text: str, name: str, *, where: str) -> Suite:
    """Turns a suite's TOML text into a `Suite`; every error names the file and the line or key."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OpbenchError(f"suite {where}: {error}") from error
    _known_keys(document, {"title", "timing", "defaults", "contenders", "workload", "target"}, where)
    timing = _timing(_table(document, "timing", where), where)
    defaults = {**_DEFAULTS, **_table(document, "defaults", where)}
    _known_keys(defaults, set(_DEFAULTS), f"{where}: [defaults]")
    contenders = _table(document, "contenders", where)
    for task in contenders:
        if task not in tasks():
            raise OpbenchError(f"suite {where}: [contenders]: {nearest('task', task, tasks())}")
    entries = document.get("workload", [])
    if not isinstance(entries, list) or not entries:
        raise OpbenchError(f"suite {where}: expected at least one [[workload]] table")
    workloads: dict[tuple[str, str], Workload] = {}
    for position, entry in enumerate(entries, start=1):
        label = f"{where}: workload {position}" + (f" ({entry['name']!r})" if "name" in entry else "")
        for workload in _workloads(entry, defaults, contenders, label):
            key = (workload.task, workload.name)
            if key in workloads:
                raise OpbenchError(
                    f"suite {label}: name {workload.name!r} is used twice in task {workload.task!r}; "
                    "put the dimension that differs into it, as in name = 'fpn-{H}'"
                )
            workloads[key] = workload
    return Suite(
        name=name,
        title=str(document.get("title", name)),
        workloads=tuple(workloads.values()),
        targets=tuple(_targets(document.get("target", []), tuple(workloads.values()), where)),
        **timing,
    )


def _targets(entries: Any, workloads: Sequence[Workload], where: str) -> Iterator[Target]:
    """One entry is one target, or several where its workload is a list."""
    known: dict[str, list[str]] = {}
    for workload in workloads:
        known.setdefault(workload.task, []).append(workload.name)
    if not isinstance(entries, list):
        raise OpbenchError(f"suite {where}: [[target]]: expected a list of tables, got {type(entries).__name__}")
    for position, entry in enumerate(entries, start=1):
        label = f"{where}: target {position}"
        names = entry.get("workload") if isinstance(entry, dict) else None
        for name in names if isinstance(names, list) else [names]:
            try:
                target = msgspec.convert({**entry, "workload": name}, Target)
            except (msgspec.ValidationError, TypeError) as error:
                raise OpbenchError(f"suite {label}: {error}") from error
            if target.task not in known:
                raise OpbenchError(f"suite {label}: {nearest('task with a workload here', target.task, known)}")
            if target.workload not in known[target.task]:
                raise OpbenchError(f"suite {label}: {nearest('workload', target.workload, known[target.task])}")
            if target.runtime not in RUNTIMES:
                raise OpbenchError(f"suite {label}: {nearest('runtime', target.runtime, RUNTIMES)}")
            if (target.at_least is None) == (target.at_most is None):
                raise OpbenchError(f"suite {label}: expected either at_least or at_most")
            yield target


def _timing(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    _known_keys(table, {"precision", "budget_seconds", *_WHOLE}, f"{where}: [timing]")
    for key, value in table.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise OpbenchError(f"suite {where}: timing.{key}: expected a number above 0, got {value!r}")
    return {key: int(value) if key in _WHOLE else float(value) for key, value in table.items()}


def _workloads(
    entry: Mapping[str, Any], defaults: Mapping[str, Any], contenders: Mapping[str, Any], label: str
) -> Iterator[Workload]:
    """One entry is one workload, or several where a dimension is a list (`H = [8, 16, 32]`)."""
    for key in ("task", "name", "source", "dims"):
        if key not in entry:
            raise OpbenchError(f"suite {label}: key {key!r} is missing")
    if entry["task"] not in tasks():
        raise OpbenchError(f"suite {label}: {nearest('task', entry['task'], tasks())}")
    task = tasks()[entry["task"]]
    dims = _table(entry, "dims", label)
    for combination in _product(dims):
        values, settings = _check_dims(task, combination, label)
        named = {**values, **combination}
        try:
            name = str(entry["name"]).format(**named)
        except (KeyError, IndexError, ValueError) as error:
            raise OpbenchError(f"suite {label}: name: {error} (known: {', '.join(named)})") from error
        for operator, asked in _table(entry, "settings", label).items():
            known = operators(task.name)
            if operator not in known or not isinstance(asked, dict):
                raise OpbenchError(f"suite {label}: settings: {unknown_operator('operator', operator, known)}")
            checked = settings_of(known[operator], asked, f"suite {label}: settings.{operator}")
            settings[operator] = {**settings.get(operator, {}), **checked}
        merged = {**defaults, "contenders": contenders.get(task.name, ()), **entry, "name": name, "dims": values}
        merged["settings"] = settings
        try:
            workload = msgspec.convert(merged, Workload)
        except msgspec.ValidationError as error:
            hint = "".join(
                f"; {key} are {', '.join(choices)}" for key, choices in _CHOICES.items() if f"$.{key}" in str(error)
            )
            raise OpbenchError(f"suite {label}: {error}{hint}") from error
        if len({spread_part(spread) for spread in workload.spreads}) < len(workload.spreads):
            raise OpbenchError(f"suite {label}: spreads: {list(workload.spreads)} has one of them twice")
        if workload.unless and workload.unless not in tasks():
            raise OpbenchError(f"suite {label}: unless: {nearest('task', workload.unless, tasks())}")
        for runtime in workload.runtimes:
            if runtime not in RUNTIMES:
                raise OpbenchError(f"suite {label}: runtimes: {nearest('runtime', runtime, RUNTIMES)}")
        if any(spread < 0 for spread in workload.spreads):
            raise OpbenchError(f"suite {label}: spreads: expected standard deviations in pixels, none below 0")
        yield workload


def _product(dims: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All combinations of the listed values; `W = "H"` follows another dimension instead of varying with it."""
    columns = [value if isinstance(value, list) else [value] for value in dims.values()]
    for values in itertools.product(*columns):
        combination = dict(zip(dims, values, strict=True))
        yield {key: combination.get(v, v) if isinstance(v, str) else v for key, v in combination.items()}


def _check_dims(
    task: Task, dims: Mapping[str, Any], label: str
) -> tuple[dict[str, int], dict[str, dict[str, Setting]]]:
    """The task's dimensions, and what else is named: settings of every operator that has them."""
    own = {name: operator.settings for name, operator in operators(task.name).items()}
    known = {*task.dims, *task.defaults, *(key for settings in own.values() for key in settings)}
    for key, value in dims.items():
        if key not in known:
            raise OpbenchError(f"suite {label}: dims: {nearest('dimension', key, known)}")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise OpbenchError(f"suite {label}: dims.{key}: expected a whole number of at least 1, got {value!r}")
    missing = [key for key in task.dims if key not in dims]
    if missing:
        raise OpbenchError(f"suite {label}: dims: {', '.join(missing)} missing (task {task.name!r} needs {task.dims})")
    settings = {
        operator: named
        for operator, declared in own.items()
        if (named := {key: value for key, value in dims.items() if key in declared})
    }
    of_task = {key: value for key, value in dims.items() if key in (*task.dims, *task.defaults)}
    return task.given(of_task), settings


def _table(document: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = document.get(key, {})
    if not isinstance(value, dict):
        raise OpbenchError(f"suite {where}: {key}: expected a table, got {type(value).__name__}")
    return value


def _known_keys(table: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise OpbenchError(f"suite {where}: {nearest('key', key, known)}")
