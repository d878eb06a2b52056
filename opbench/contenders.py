"""Who competes in a workload: what a suite lists, what filters ask for by name, and who comes from a user's file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from opbench import registry
from opbench.errors import nearest
from opbench.schema import DEFAULT_RUNTIME, Device, Filter, OpbenchError, Operator, Suite, Task, Workload
from opbench.suites import GROUPS

Filters = Mapping[Filter, Sequence[str]]

# A "?" after an implementation: a package's, that competes where the package is installed.
_CONTENDER = re.compile(r"(?P<operator>[^\[\]]+)(\[(?P<implementation>[^\[\]]+)\](?P<optional>\?)?)?")


def contenders(suite: Suite, filters: Filters) -> dict[str, list[str]]:
    """The contenders beside the baseline that a suite has under the filters, by task, whether they can run here or not.

    Of the filters only task, workload, operator and implementation choose contenders.
    """
    found: dict[str, list[str]] = {}
    for workload in suite.workloads:
        if passes(filters, "task", workload.task) and passes(filters, "workload", workload.name):
            task = registry.tasks()[workload.task]
            pairs = [*competing(task, workload, filters), *not_installed(task, workload, filters)]
            if set(filters.get("runtime") or workload.runtimes) <= {DEFAULT_RUNTIME}:
                pairs = [pair for pair in pairs if not for_exports(*pair, filters)]
            found.setdefault(task.name, []).extend(_name(*pair) for pair in pairs if _name(*pair) != task.baseline)
    return {task: list(dict.fromkeys(names)) for task, names in found.items()}


def competing(task: Task, workload: Workload, filters: Filters) -> Iterator[tuple[Operator, str]]:
    """The contenders of a workload, baseline first."""
    operators = registry.operators(task.name)
    listed = _expand(task, workload.contenders) if workload.contenders else None
    pairs = [(operator, name) for operator in operators.values() for name in operator.implementations]
    pairs.sort(key=lambda pair: _name(*pair) != task.baseline)
    if listed is not None:
        order = {name: position for position, name in enumerate(listed)}
        pairs.sort(key=lambda pair: order.get(_name(*pair), len(order)) if _name(*pair) != task.baseline else -1)
    places = {name.partition("[")[0] for name in listed or ()}
    for operator, name in pairs:
        contender = _name(operator, name)
        if contender == task.baseline:
            yield operator, name
            continue
        # An operator that is asked for by name joins a panel whose suite doesn't list it.
        named = operator.name in filters.get("operator", ()) and operator.name not in places
        # Beside implementations for torch that a suite lists competes the one that is to be exported.
        graph = operator.implementations[name].exported and operator.name in places
        invited = (
            listed is None or contender in listed or graph or (task.name, contender) in registry.extensions() or named
        )
        if invited and passes(filters, "operator", operator.name) and passes(filters, "implementation", name):
            yield operator, name


def for_exports(operator: Operator, implementation: str, filters: Filters) -> bool:
    """Whether it was written to be exported, and nobody asks what it costs in torch."""
    found = operator.implementations.get(implementation)  # that of a package that is not installed is in no table
    return found is not None and found.exported and implementation not in filters.get("implementation", ())


def not_installed(task: Task, workload: Workload, filters: Filters) -> Iterator[tuple[Operator, str]]:
    """The contenders that compete where their package is installed, which it is not here."""
    for pattern in workload.contenders:
        match = _CONTENDER.fullmatch(pattern)
        if match is None or not match["optional"]:
            continue
        operator, name = registry.operator(task.name, match["operator"]), match["implementation"]
        if name not in operator.implementations and (
            passes(filters, "operator", operator.name) and passes(filters, "implementation", name)
        ):
            yield operator, name


def _expand(task: Task, patterns: Sequence[str]) -> list[str]:
    """`carafe` stands for every implementation, `carafe[triton]` for one, `carafe[mmcv]?` for one if installed.

    `*` stands for every operator of the task that no other entry names; `-carafe` names one to leave it out, `-pasted`
    a group of them.
    """
    operators = registry.operators(task.name)
    names = []
    mentioned = {re.split(r"[\[\]]", pattern.removeprefix("-"))[0] for pattern in patterns}
    grouped = [group for group in GROUPS if f"-{group}" in patterns]
    mentioned.update(name for group in grouped for name in GROUPS[group])
    for pattern in patterns:
        if pattern.removeprefix("-") in grouped:
            continue
        if pattern == "*":
            others = [operator for operator in operators.values() if operator.name not in mentioned]
            names += [_name(operator, name) for operator in others for name in operator.implementations]
            continue
        if pattern.startswith("-"):
            registry.operator(task.name, pattern.removeprefix("-"))
            continue
        match = _CONTENDER.fullmatch(pattern)
        if match is None:
            raise OpbenchError(f"contender {pattern!r}: expected operator or operator[implementation]")
        operator = registry.operator(task.name, match["operator"])
        if match["implementation"] is None:
            names += [_name(operator, name) for name in operators[operator.name].implementations]
        elif match["implementation"] in operator.implementations:
            names.append(_name(operator, match["implementation"]))
        elif not match["optional"]:
            raise OpbenchError(
                nearest(
                    f"implementation of {task.name}/{operator.name}", match["implementation"], operator.implementations
                )
            )
    return names


def passes(filters: Filters, key: Filter, value: str | Device) -> bool:
    """Whether a filter lets a value through: nothing is asked of it, or the value is."""
    return not filters.get(key) or value in filters[key]


def _name(operator: Operator, implementation: str) -> str:
    return f"{operator.name}[{implementation}]"
