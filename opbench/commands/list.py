"""`opbench list`: what is declared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import Argument, Option, With

if TYPE_CHECKING:
    from opbench.schema import Implementation

What = Literal["tasks", "operators", "implementations", "suites", "workloads"]
LONGEST_REASON = 200
# A header and its rows.
Listing = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]


class ListRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to list."""

    what: Annotated[What, Argument("What to list.")] = "operators"
    suite: Annotated[str, Option("The suite whose workloads to list.")] = "default"
    with_: With = ()


def list_(request: ListRequest) -> Exit:
    """List tasks, operators, implementations (and why one can't run here), suites or a suite's workloads."""
    from opbench import registry
    from opbench.report.screen import screen

    registry.load()
    header, rows = _LISTINGS[request.what](request.suite)
    screen().table(header, rows)
    return Exit.FINE


def _tasks(_: str) -> Listing:
    from opbench import registry

    rows = []
    for task in registry.tasks().values():
        optional = [f"{name}={value}" for name, value in task.defaults.items()]
        rows.append((task.name, task.baseline, " ".join([*task.dims, *optional]), task.title))
    return ("task", "baseline", "dimensions", "title"), rows


def _operators(_: str) -> Listing:
    from opbench import registry

    every = ((task, operator) for task in registry.tasks() for operator in registry.operators(task).values())
    rows = [(task, operator.name, operator.title, operator.source) for task, operator in every]
    return ("task", "operator", "title", "source"), rows


def _implementations(_: str) -> Listing:
    from opbench import registry

    rows = []
    for task in registry.tasks():
        for operator in registry.operators(task).values():
            for name, implementation in operator.implementations.items():
                devices = ", ".join(implementation.devices)
                here = _here(implementation)
                rows.append((task, f"{operator.name}[{name}]", devices, here, implementation.note))
    return ("task", "contender", "devices", "here", "note"), rows


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
    return ("suite", "workloads", "title"), [(name, str(len(suite.workloads)), suite.title) for name, suite in found]


def _workloads(name: str) -> Listing:
    from opbench import suites

    rows = []
    for workload in suites.load(name).workloads:
        dims = " ".join(f"{key}={value}" for key, value in workload.dims.items())
        rows.append((workload.task, workload.name, dims, workload.source))
    return ("task", "workload", "dimensions", "source"), rows


_LISTINGS: dict[What, Callable[[str], Listing]] = {
    "tasks": _tasks,
    "operators": _operators,
    "implementations": _implementations,
    "suites": _suites,
    "workloads": _workloads,
}

COMMAND = Command("list", ListRequest, list_)
