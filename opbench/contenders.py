"""Who competes in a workload: what a suite lists, what filters ask for by name, and who comes from a user's file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from opbench import registry
from opbench.errors import nearest
from opbench.schema import DEFAULT_RUNTIME, Device, Filter, OpbenchError, Operator, Suite, Task, Workload
from opbench.suites import GROUPS, PEERS

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
            if _in_torch(workload, filters):
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
            listed is None
            or contender in listed
            or graph
            or (task.name, contender) in registry.extensions()
            or named
            or (operator.name in places and _joins(operator, name, workload, filters))
        )
        if invited and passes(filters, "operator", operator.name) and passes(filters, "implementation", name):
            yield operator, name


def _joins(operator: Operator, implementation: str, workload: Workload, filters: Filters) -> bool:
    """Whether an installed package's operator competes beside implementations that a suite lists.

    In torch alone: it is no graph that could be exported.
    """
    if not operator.implementations[implementation].package or not _in_torch(workload, filters):
        return False
    return not _left_out(operator, implementation, workload) or implementation in filters.get("implementation", ())


def _left_out(operator: Operator, implementation: str, workload: Workload) -> bool:
    return bool({f"-{PEERS}", f"-{_name(operator, implementation)}"} & set(workload.contenders))


def _in_torch(workload: Workload, filters: Filters) -> bool:
    return set(filters.get("runtime") or workload.runtimes) <= {DEFAULT_RUNTIME}


def peers_left_out(suite: Suite, filters: Filters) -> Iterator[str]:
    """A sentence for installed packages' operators that a suite leaves out, where no filter chooses implementations."""
    found: dict[str, None] = {}
    for workload in suite.workloads:
        if filters.get("implementation") or not workload.contenders or not passes(filters, "task", workload.task):
            continue
        task = registry.tasks()[workload.task]
        places = {name.partition("[")[0] for name in _expand(task, workload.contenders)}
        for operator in registry.operators(task.name).values():
            if operator.name in places and passes(filters, "operator", operator.name):
                peers = (name for name, one in operator.implementations.items() if one.package)
                found |= {_name(operator, name): None for name in peers if _left_out(operator, name, workload)}
    if found:
        names = dict.fromkeys(name.partition("[")[2].removesuffix("]") for name in found)
        adds = " or ".join(f"--implementation {name}" for name in names)
        yield f"installed, and left out by suite {suite.name!r}: {', '.join(found)} ({adds} adds them)"


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
    a group of them. `-carafe[mmcv]` leaves out one implementation, `-peers` those of every installed package, of
    what isn't named one by one.
    """
    operators = registry.operators(task.name)
    single = {pattern for pattern in patterns if pattern.startswith("-") and "[" in pattern}
    whole = [pattern for pattern in patterns if pattern not in single and pattern != f"-{PEERS}"]
    for pattern in single:
        registry.operator(task.name, pattern.removeprefix("-").partition("[")[0])

    def every(operator: Operator) -> list[str]:
        peers = f"-{PEERS}" in patterns
        found = [name for name, one in operator.implementations.items() if not (peers and one.package)]
        return [named for name in found if f"-{(named := _name(operator, name))}" not in single]

    names = []
    mentioned = {re.split(r"[\[\]]", pattern.removeprefix("-"))[0] for pattern in whole}
    grouped = [group for group in GROUPS if f"-{group}" in whole]
    mentioned.update(name for group in grouped for name in GROUPS[group])
    for pattern in whole:
        if pattern.removeprefix("-") in grouped:
            continue
        if pattern == "*":
            names += [name for one in operators.values() if one.name not in mentioned for name in every(one)]
            continue
        if pattern.startswith("-"):
            registry.operator(task.name, pattern.removeprefix("-"))
            continue
        match = _CONTENDER.fullmatch(pattern)
        if match is None:
            raise OpbenchError(f"contender {pattern!r}: expected operator or operator[implementation]")
        operator = registry.operator(task.name, match["operator"])
        if match["implementation"] is None:
            names += every(operator)
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
