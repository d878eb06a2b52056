"""Tasks, operators, implementations, suites and workloads as tables: what is declared, and what of it can run here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from opbench.schema import Implementation

What = Literal["tasks", "operators", "implementations", "suites", "workloads"]
LONGEST_REASON = 1_000


class Listing(msgspec.Struct, frozen=True):
    """A table of text; `names` are the columns that hold identifiers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: tuple[int, ...] = (0,)


def listing(what: What, suite: str) -> Listing:
    """Loads what is declared, and lists it; `suite` is whose workloads are listed."""
    from opbench import registry

    registry.load()
    return _LISTINGS[what](suite)


def _tasks(_: str) -> Listing:
    from opbench import registry

    rows = []
    for task in registry.tasks().values():
        optional = [f"{name}={value}" for name, value in task.defaults.items()]
        rows.append((task.name, task.baseline, " ".join([*task.dims, *optional]), task.title))
    return Listing(("task", "baseline", "dimensions", "title"), tuple(rows), names=(0, 1))


def _operators(_: str) -> Listing:
    from opbench import registry

    every = ((task, operator) for task in registry.tasks() for operator in registry.operators(task).values())
    rows = tuple((task, operator.name, operator.title, operator.source) for task, operator in every)
    return Listing(("task", "operator", "title", "source"), rows, names=(0, 1))


def _implementations(_: str) -> Listing:
    from opbench import registry

    rows = []
    for task in registry.tasks():
        for operator in registry.operators(task).values():
            for name, implementation in operator.implementations.items():
                devices = ", ".join(implementation.devices)
                here = _here(implementation)
                rows.append((task, f"{operator.name}[{name}]", devices, here, implementation.note))
    return Listing(("task", "contender", "devices", "here", "note"), tuple(rows), names=(0, 1))


def _here(implementation: Implementation) -> str:
    """Why it can't run here; whoever declared it may have been wrong about that, too."""
    from opbench.errors import said

    try:
        return implementation.missing() or "available"
    except Exception as error:
        return f"its missing() raised {said(error, LONGEST_REASON)}"


def _suites(_: str) -> Listing:
    from opbench import suites

    found = [(name, suites.load(name)) for name in suites.names()]
    rows = tuple((name, str(len(suite.workloads)), suite.title) for name, suite in found)
    return Listing(("suite", "workloads", "title"), rows)


def _workloads(name: str) -> Listing:
    from opbench import suites

    rows = []
    for workload in suites.load(name).workloads:
        dims = " ".join(f"{key}={value}" for key, value in workload.dims.items())
        rows.append((workload.task, workload.name, dims, workload.source))
    return Listing(("task", "workload", "dimensions", "source"), tuple(rows), names=(0, 1))


_LISTINGS: Mapping[What, Callable[[str], Listing]] = {
    "tasks": _tasks,
    "operators": _operators,
    "implementations": _implementations,
    "suites": _suites,
    "workloads": _workloads,
}
