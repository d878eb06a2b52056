"""What a declaration may say, and what may be asked of it: an operator's parts, its own settings, where they stand."""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType

from opbench.errors import nearest
from opbench.schema import OpbenchError, Operator, Setting, Task


def unusable(operator: Operator) -> str:
    """What of a declaration can't be, in words; "" where all can."""
    if not (isinstance(operator.name, str) and operator.name and not set(operator.name) & set("/[]")):
        return f"name: expected a word without / [ ], got {operator.name!r}"
    for part in ("module", "definition", "cost", "requires"):
        if not callable(getattr(operator, part)):
            return f"{part}: expected a function, got {getattr(operator, part)!r}"
    for name, value in dict(operator.settings or {}).items():
        if not isinstance(value, bool | int | float | str) or not _fit_for_an_id(value):
            return f"settings: expected a bool, a finite number or a word for {name!r}, got {value!r}"
        if name == "x":
            return "settings: 'x' is the name of the input"
    if not operator.implementations or any(name != one.name for name, one in operator.implementations.items()):
        return "implementations: expected at least one, each under its own name"
    classes: object = operator.classes
    if not isinstance(classes, tuple):
        return f"classes: expected a tuple of module classes, got {classes!r}"
    return ""


def completed(operator: Operator, tasks: Mapping[str, Task]) -> Operator:
    """With what it left out. Raises OpbenchError for what can't be: an unknown task, a setting of the task's name."""
    if sentence := unusable(operator):
        raise OpbenchError(f"operator {operator.name!r}: {sentence}")
    if operator.task not in tasks:
        raise OpbenchError(f"operator {operator.name!r}: {nearest('task', operator.task, tasks)}")
    task = tasks[operator.task]
    if taken := sorted({*task.dims, *task.defaults} & set(operator.settings)):
        raise OpbenchError(f"operator {operator.name!r}: setting {taken[0]!r} is a dimension of task {task.name!r}")
    if operator.inputs is None and task.inputs is None:
        raise OpbenchError(f"operator {operator.name!r}: inputs are missing, and task {task.name!r} has none to share")
    return replace(
        operator,
        inputs=operator.inputs or task.inputs,
        title=operator.title or operator.name,
        formulas={**task.formulas, **operator.formulas},
    )


def settings_of(
    operator: Operator, asked: Mapping[str, object], where: str, *, spoken: bool = False
) -> dict[str, Setting]:
    """Settings asked of an operator, checked against those it declares; as text where they are `spoken`.

    Raises OpbenchError naming the unknown one, or what was expected.
    """
    found: dict[str, Setting] = {}
    for key, value in asked.items():
        if key not in operator.settings:
            known = f"known: {', '.join(operator.settings)}" if operator.settings else f"{operator.name} has none"
            raise OpbenchError(f"{where}: unknown setting {key!r} ({known})")
        default = operator.settings[key]
        read = _read(value, default) if spoken and isinstance(value, str) else value
        if type(default) is float and type(read) is int:
            read = float(read)
        if type(read) is not type(default) or not _fit_for_an_id(read):
            raise OpbenchError(f"{where}.{key}: expected {type(default).__name__}, as in {default!r}, got {value!r}")
        found[key] = read
    return found


def declared_by(module: object) -> tuple[tuple[Task, ...], tuple[Operator, ...]]:
    """A module's `TASKS` and `OPERATORS`. Raises OpbenchError for what are none."""
    tasks, operators = getattr(module, "TASKS", ()), getattr(module, "OPERATORS", ())
    if not (isinstance(tasks, tuple) and all(isinstance(task, Task) for task in tasks)):
        raise OpbenchError(f"TASKS: expected a tuple of opbench.schema.Task, got {type(tasks).__name__}")
    if not (isinstance(operators, tuple) and all(isinstance(operator, Operator) for operator in operators)):
        raise OpbenchError(f"OPERATORS: expected a tuple of opbench.schema.Operator, got {type(operators).__name__}")
    return tasks, operators


def declaring(package: ModuleType) -> list[str]:
    """The modules of a package that declare something, the first of them in the order that the package gives."""
    order: Sequence[str] = getattr(package, "ORDER", ())
    names = {module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")}
    names -= set(getattr(package, "NOT_OPERATORS", ()))
    ranked = sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))
    return [f"{package.__name__}.{name}" for name in ranked]


def _read(text: str, default: Setting) -> object:
    """A setting as it is typed, by the type of its default; the text itself where it isn't of that type."""
    if isinstance(default, bool):
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return type(default)(text)
    except ValueError:
        return text


def _fit_for_an_id(value: object) -> bool:
    """A finite number, or a text that is no part of an id by itself."""
    if isinstance(value, float):
        return math.isfinite(value)
    return not (isinstance(value, str) and (not value or set(value) & set("/[]")))
