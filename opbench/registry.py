"""The one registry: tasks, operators and implementations, filled from declarations and handed out as copies.

Built-in operators live in `opbench.operators` (a folder each), whole networks in `opbench.models.declared`. Third
parties add theirs from their own package through the entry-point group `opbench`, or from a file given as
`--with FILE.py`. Either way the module is imported, and what it declares competes: the operators of its tuple
`OPERATORS`, in tasks of their own if it has a tuple `TASKS`, and whatever it gives to `register_task`,
`register_operator` and `register_implementation`.

Longer than 300 lines because it is one table with what is asked of it: the functions are short, and share its state.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, Unpack

from opbench.declarations import completed, declared_by, declaring
from opbench.errors import nearest, said
from opbench.process.no_exit import no_exit
from opbench.schema import DEFAULT_RUNTIME, Case, Implementation, ImplementationOptions, OpbenchError, Operator, Task

_tasks: dict[str, Task] = {}
_operators: dict[tuple[str, str], Operator] = {}
_extensions: set[tuple[str, str]] = set()
_own: set[tuple[str, str]] = set()
_broken: dict[str, str] = {}
_files: dict[Path, ModuleType] = {}
# What has been begun of loading: the built-in operators, and then what others have installed.
_begun: list[str] = []
# The variable that hands `--with` to child processes.
WITH = "OPBENCH_WITH"

# Built-in declarations. They are named here, as whatever is declared imports this module.
_TASKS = "opbench.tasks"
_PACKAGES = ("opbench.operators", "opbench.models.declared")

Core = TypeVar("Core", bound=Callable[..., object])


def unknown_operator(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for an unknown operator; its folder may be one that couldn't be loaded, so that is said too."""
    return nearest(kind, name, known) + "".join(f"; {sentence}" for sentence in _broken.values())


def register_task(task: Task) -> Task:
    """Adds a task; a second declaration of the same name is an error."""
    if _tasks.setdefault(task.name, task) is not task:
        raise OpbenchError(f"task {task.name!r} is declared twice")
    return task


def register_operator(operator: Operator) -> Operator:
    """Adds an operator to its task; a second declaration of the same name in that task is an error.

    What it leaves out is filled in: its inputs are those of its task, its title is its name.
    """
    importlib.import_module(_TASKS)
    key = (operator.task, operator.name)
    if key in _operators:
        raise OpbenchError(f"operator {operator.name!r} is declared twice in task {operator.task!r}")
    _operators[key] = completed(operator, _tasks)
    return _operators[key]


def register_implementation(
    task: str, operator: str, name: str, **options: Unpack[ImplementationOptions]
) -> Callable[[Core], Core]:
    """Decorator: the function competes as `operator[name]` in `task`, with the core's signature.

    The options are the fields of `opbench.schema.Implementation`. Raises OpbenchError for an unknown one, and for an
    operator that is none.

    >>> @register_implementation("carafe_core", "carafe", "mine")        # doctest: +SKIP
    ... def my_carafe(x, mask, *, kernel_size, group_size, scale_factor): ...
    """
    if unknown := sorted(set(options) - ImplementationOptions.__annotations__.keys()):
        known = ImplementationOptions.__annotations__
        raise OpbenchError(f"implementation {operator}[{name}]: {nearest('option', unknown[0], known)}")

    def add(function: Core) -> Core:
        load_built_in()  # a file that declares may be imported by anybody, too
        key = (task, operator)
        if key not in _operators:
            raise OpbenchError(unknown_operator("operator", f"{task}/{operator}", (f"{t}/{o}" for t, o in _operators)))
        old = _operators[key]
        if name in old.implementations:
            raise OpbenchError(f"implementation {operator}[{name}] is declared twice in task {task!r}")
        new = Implementation(name=name, function=function, **options)  # type: ignore[arg-type]
        _operators[key] = replace(old, implementations={**old.implementations, name: new})
        return function

    return add


def opaque(case: Case, of: Operator | None = None) -> str:
    """What executes the case out of sight of torch's dispatcher, in words; "" where it sees each operation.

    `of` is its operator, where that is a network and stands in no task.
    """
    if case.runtime != DEFAULT_RUNTIME:
        return f"{case.runtime} computes"
    compiles = (of or operator(case.task, case.operator)).implementations[case.implementation].compiles
    return "compiled code allocates" if compiles else ""


def load() -> None:
    """Imports the built-in tasks, every built-in operator and every installed entry point, once.

    A built-in or a package that can't be imported stops no other: `broken` says what is wrong with it.
    """
    load_built_in()
    if _begun[-1] != "built-in loaded":  # it all is; or this is one of them, which asks while it is imported
        return
    _begun.append("all")
    built_in = contenders()
    for entry in entry_points():
        load_entry_point(entry)
    _extensions.update(contenders() - built_in)
    for path in added_files():
        load_file(path)


def load_built_in() -> None:
    """Imports what opbench itself declares; nobody else's code."""
    if _begun:
        return
    _begun.append("built-in")
    importlib.import_module(_TASKS)
    for package in map(importlib.import_module, _PACKAGES):
        for name in declaring(package):
            _load_built_in(name)
    _own.update(_operators)
    _begun.append("built-in loaded")


def load_nothing_else() -> None:
    """Loads what opbench itself declares, and sees to it that this process never loads anybody else's code."""
    load_built_in()
    _begun.append("all")


def built_in(task: str, name: str) -> bool:
    """Whether an operator is one of opbench's own, whoever has added implementations of it."""
    return (task, name) in _own


def begun() -> bool:
    """Whether this process has begun to load operators: what it knows of them may then be more than is installed."""
    return bool(_begun or _operators)


def entry_points() -> tuple[importlib.metadata.EntryPoint, ...]:
    """The entry points that other packages have installed, whether loaded or not."""
    return tuple(importlib.metadata.entry_points(group="opbench"))


def load_entry_point(entry: importlib.metadata.EntryPoint) -> str:
    """Has what an installed package declares compete; why it is left out, or ""."""
    try:
        with no_exit():
            found = entry.load()
        _declare(found)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, too: it is anybody's code
        package = entry.dist.name if entry.dist else entry.value
        sentence = f"package {package}: its entry point {entry.name!r} can't be loaded and is left out: {said(error)}"
        _broken[f"entry point {entry.name}"] = sentence
        return sentence
    return ""


def add_files(paths: Iterable[str]) -> None:
    """Has this process and its children load these files as soon as they load the registry (`--with FILE.py`)."""
    known = [*added_files(), *map(os.path.abspath, paths)]
    os.environ[WITH] = os.pathsep.join(dict.fromkeys(known))


def added_files() -> list[str]:
    """The files that `--with` named."""
    return [path for path in os.environ.get(WITH, "").split(os.pathsep) if path]


def _load_built_in(name: str) -> None:
    folder = name.removeprefix("opbench.").replace(".", "/")
    known, imported = len(_operators), name in sys.modules
    try:
        module = importlib.import_module(name)
        _declare(module)
    except Exception as error:
        at = error if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)[-1]
        # Our own errors say what is wrong by themselves.
        kind = "" if isinstance(error, OpbenchError) else f"{type(error).__name__} at {at.filename}:{at.lineno}: "
        _broken[folder] = f"{folder} can't be loaded: {kind}{error}"
        return
    if not (hasattr(module, "OPERATORS") or imported or len(_operators) > known):
        _broken[folder] = f"{folder} declares nothing: expected a tuple OPERATORS of opbench.schema.Operator"


def _declare(module: object) -> None:
    """Registers a module's `TASKS` and `OPERATORS`. What it registers itself it has by being imported."""
    tasks, declared = declared_by(module)
    tasks_before, before = dict(_tasks), dict(_operators)  # all or none
    try:
        for task in tasks:
            register_task(task)
        for operator in declared:
            register_operator(operator)
    except OpbenchError:
        _tasks.clear()
        _tasks.update(tasks_before)
        _operators.clear()
        _operators.update(before)
        raise


def load_file(path: str) -> None:
    """Imports a user's file so that its declarations compete (`--with FILE.py`); once, however often it is named."""
    load()
    file = Path(path)
    if not file.is_file():
        raise OpbenchError(f"--with {path}: no such file")
    if file.resolve() in _files:
        return
    name = f"opbench_with_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise OpbenchError(f"--with {path}: not a Python file (expected NAME.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = _files[file.resolve()] = module
    before = contenders()
    try:
        with no_exit():
            spec.loader.exec_module(module)
        _declare(module)
    except OpbenchError as error:
        raise OpbenchError(f"--with {path}: {error}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, too: an exit that nobody sees is a green build
        raise OpbenchError(f"--with {path}: importing it raised {said(error)}") from error
    added = contenders() - before
    if not added:
        raise OpbenchError(
            f"--with {path}: declares nothing; use opbench.registry.register_operator or register_implementation"
        )
    _extensions.update(added)


def file_loaded(path: Path) -> ModuleType | None:
    """The module of a file that was given as `--with`: importing it again would declare everything twice."""
    return _files.get(path.resolve())


def extensions() -> frozenset[tuple[str, str]]:
    """The (task, contender) pairs that third parties declared; they compete whatever a suite lists."""
    return frozenset(_extensions)


def broken_so_far() -> list[str]:
    """The sentences of `broken`, where this process has loaded the operators."""
    return list(_broken.values())


def broken() -> dict[str, str]:
    """The folders of built-in operators that can't be used, each with a sentence that says what is wrong with it."""
    load()
    return dict(_broken)


def contenders() -> set[tuple[str, str]]:
    """The (task, contender) pairs that this process knows so far; nothing is loaded for it."""
    return {(task, f"{name}[{impl}]") for (task, name), op in _operators.items() for impl in op.implementations}


def tasks() -> dict[str, Task]:
    """A copy of the known tasks by name."""
    load()
    return dict(_tasks)


def operators(task: str) -> dict[str, Operator]:
    """A copy of the operators that compete in a task, by name, in order of declaration."""
    load()
    if task not in _tasks:
        raise OpbenchError(nearest("task", task, _tasks))
    return {name: operator for (owner, name), operator in _operators.items() if owner == task}


def every_operator() -> list[Operator]:
    """The operators of all tasks, in order of declaration."""
    return [operator for task in tasks() for operator in operators(task).values()]


def operator(task: str, name: str) -> Operator:
    """One operator of a task."""
    known = operators(task)
    if name not in known:
        raise OpbenchError(unknown_operator(f"operator of task {task!r}", name, known))
    return known[name]


def given(case: Case) -> dict[str, Any]:
    """What the operator of a case is called with: its task's dimensions and its own settings."""
    return {**operator(case.task, case.operator).given(case.dims), **case.settings}
