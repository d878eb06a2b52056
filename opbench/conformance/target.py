"""The target of a check: `file.py:name` or `package.module:name` -> the function, module class or module it names.

Whatever stands in the way is an `OpbenchError` of one line: the person who named the target can mend it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from opbench.errors import nearest, said
from opbench.registry import file_loaded
from opbench.schema import OpbenchError

if TYPE_CHECKING:
    import torch

Value = int | float | bool | str


@dataclass(frozen=True)
class TargetName:
    """A target as it was written: `source` is a file or a module's name, `name` may have dots."""

    text: str
    source: str
    name: str

    @property
    def is_file(self) -> bool:
        """Whether the source is a path rather than a module's name."""
        return self.source.endswith(".py") or "/" in self.source or "\\" in self.source


@dataclass(frozen=True)
class CoreSignature:
    """What a core is called with: tensors in order, and options with their defaults (`inspect.Parameter.empty`)."""

    name: str
    tensors: tuple[str, ...]
    options: Mapping[str, Any]

    def __str__(self) -> str:
        empty = inspect.Parameter.empty
        options = (name if value is empty else f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.name}({', '.join(self.tensors)}, *, {', '.join(options)})"


@dataclass(frozen=True)
class Adapted:
    """A function that can be called as the core is; `fixed` are the options it has no argument for."""

    function: Callable[..., torch.Tensor]
    fixed: Mapping[str, Value]
    notes: tuple[str, ...] = ()


def parse(text: str) -> TargetName:
    """Reads TARGET; a file that isn't there is said at once, before anything heavy is loaded."""
    source, colon, name = text.rpartition(":")
    if not (colon and source and name) or not all(part.isidentifier() for part in name.split(".")):
        raise OpbenchError(f"target {text!r}: expected FILE.py:NAME or package.module:NAME")
    target = TargetName(text, source, name)
    if target.is_file and not Path(source).is_file():
        raise OpbenchError(f"target {text!r}: {source}: no such file")
    return target


def load(target: TargetName) -> Any:
    """Imports the source and returns what the name stands for: something that can be called."""
    # A module of the current folder is found, and stands in the place of none that is installed.
    sys.path.append(os.getcwd())
    try:
        module = _from_file(Path(target.source)) if target.is_file else importlib.import_module(target.source)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        raise OpbenchError(f"target {target.text!r}: importing {target.source} raised {said(error)}") from error
    found: Any = module
    for part in target.name.split("."):
        if not hasattr(found, part):
            raise OpbenchError(f"target {target.text!r}: {nearest('name', part, _public(found))}")
        found = getattr(found, part)
    if not callable(found):
        raise OpbenchError(
            f"target {target.text!r}: expected a function or a torch.nn.Module, {target.name} is {_a(type(found))}"
        )
    return found


def _from_file(path: Path) -> ModuleType:
    known = file_loaded(path)
    if known is not None:
        return known
    name = f"opbench_target_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file (expected NAME.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # A file's neighbours can be imported, as when it is run.
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    return module


def _public(module: object) -> list[str]:
    """What the source itself defines comes under consideration; if that is nothing, all that can be called."""
    names = [name for name in dir(module) if not name.startswith("_") and callable(getattr(module, name, None))]
    own = [
        name for name in names if getattr(getattr(module, name), "__module__", None) == getattr(module, "__name__", "")
    ]
    return own or names


def _a(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'aeiou' else 'a'} {kind.__name__}"


def core_signature(function: Callable[..., Any]) -> CoreSignature:
    """The signature of a core, read off its public function: tensors first, keyword-only options, implementation."""
    parameters = inspect.signature(function).parameters.values()
    keyword = inspect.Parameter.KEYWORD_ONLY
    return CoreSignature(
        name=function.__name__,
        tensors=tuple(parameter.name for parameter in parameters if parameter.kind is not keyword),
        options={
            parameter.name: parameter.default
            for parameter in parameters
            if parameter.kind is keyword and parameter.name != "implementation"
        },
    )


def adapt(target: TargetName, function: Callable[..., Any], core: CoreSignature, fixed: Mapping[str, Value]) -> Adapted:
    """`function`, to be called as `core(**tensors, **options)`.

    Tensors may have other names. An option may be missing if it has a default or a fixed value: it then stays there,
    and the function is refused (NotImplementedError) anything else. Raises OpbenchError for any other signature.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # built in: taken at its word
        return Adapted(function, {})
    kinds = inspect.Parameter
    any_name = any(parameter.kind is kinds.VAR_KEYWORD for parameter in parameters.values())
    by_position = [
        name
        for name, parameter in parameters.items()
        if parameter.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD) and name not in core.options
    ]
    named = all(name in parameters and parameters[name].kind is not kinds.POSITIONAL_ONLY for name in core.tensors)
    several = any(parameter.kind is kinds.VAR_POSITIONAL for parameter in parameters.values())
    positional = several or len(by_position) >= len(core.tensors)
    if not (named or any_name or positional):
        raise _wrong(target, function, core, f"it takes {len(by_position)} of {len(core.tensors)} tensors")
    lacking = [] if any_name else [name for name in core.options if name not in parameters]
    unset = [name for name in lacking if core.options[name] is kinds.empty and name not in fixed]
    if unset:
        raise _wrong(target, function, core, f"it has no argument {', '.join(unset)}")
    known = {*core.options, *(core.tensors if named else by_position[: len(core.tensors)])}
    strangers = [
        name
        for name, parameter in parameters.items()
        if parameter.default is kinds.empty
        and parameter.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
        and name not in known
    ]
    if strangers:
        raise _wrong(target, function, core, f"its argument {', '.join(strangers)} has no default")
    held = {name: fixed.get(name, core.options[name]) for name in lacking}
    notes = tuple(f"{name}: the target has no such argument; checked at {name}={value}" for name, value in held.items())

    def call(*tensors: Any, **arguments: Any) -> Any:
        for name, value in held.items():
            if arguments.pop(name, value) != value:
                raise NotImplementedError(f"{name}: the target has no such argument")
        if named or tensors or not positional:
            return function(*tensors, **arguments)
        in_order = [arguments.pop(name) for name in core.tensors]
        return function(*in_order, **arguments)

    return Adapted(call, held, notes)


def _wrong(target: TargetName, function: Callable[..., Any], core: CoreSignature, why: str) -> OpbenchError:
    got = f"{target.name}{inspect.signature(function)}"
    return OpbenchError(f"target {target.text!r}: wrong signature, {why}: expected {core}, got {got}")


def asked_for(kind: str, names: Sequence[str], only: Sequence[str], skip: Sequence[str]) -> set[str]:
    """Which of the names `--only` and `--skip` leave. OpbenchError for one that is none's."""
    for option, given in (("--only", only), ("--skip", skip)):
        for name in given:
            if name not in names:
                raise OpbenchError(f"{option}: {nearest(kind, name, names)}")
    return set(only or names) - set(skip)


def assignments(option: str, texts: Sequence[str]) -> dict[str, Value]:
    """`NAME=VALUE` pairs of a command-line option; values are ints, floats, true and false, else words."""
    found: dict[str, Value] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name.isidentifier() or not value:
            raise OpbenchError(f"{option} {text}: expected NAME=VALUE, as in kernel_size=5, act=false or norm=LN")
        found[name] = _value(value)
    return found


def _value(text: str) -> Value:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
