"""The target of a check: `file.py:name` or `package.module:name` -> the function, module class or module it names.

Whatever stands in the way is an `OpbenchError` of one line: the person who named the target can mend it.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from opbench.errors import nearest, said, text_of
from opbench.registry import file_loaded
from opbench.schema import OpbenchError

Value = int | float | bool | str | list[Any] | tuple[Any, ...] | None


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


def parse(text: str) -> TargetName:
    """Reads TARGET; a file that isn't there is said at once, before anything heavy is loaded."""
    source, colon, name = text.rpartition(":")
    if not (colon and source and name) or not all(part.isidentifier() for part in name.split(".")):
        raise OpbenchError(f"target {text!r}: expected FILE.py:NAME or package.module:NAME")
    target = TargetName(text, source, name)
    if target.is_file and not Path(source).is_file():
        raise OpbenchError(f"target {text!r}: {source}: no such file")
    return target


def load(target: TargetName, path: Sequence[str] = ()) -> Any:
    """Imports the source and returns what the name stands for: something that can be called.

    `path` are folders from which it may import; a file in one of them is imported as a part of its package.
    """
    for folder in path:
        if not Path(folder).is_dir():
            raise OpbenchError(f"--path {folder}: no such folder")
        sys.path.insert(0, str(Path(folder).resolve()))
    # A module of the current folder is found, too, and stands in the place of none that is installed.
    sys.path.append(os.getcwd())
    try:
        module = _from_file(Path(target.source), path) if target.is_file else importlib.import_module(target.source)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        raise OpbenchError(
            f"target {target.text!r}: importing {target.source} raised {said(error)}{_what_to_add(error, target)}"
        ) from error
    try:
        found = _named(module, target)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        if isinstance(error, OpbenchError):
            raise
        raise OpbenchError(f"target {target.text!r}: looking up {target.name} raised {said(error)}") from error
    if not callable(found):
        raise OpbenchError(
            f"target {target.text!r}: expected a function or a torch.nn.Module, {target.name} is {_a(type(found))}"
        )
    return found


def _named(module: ModuleType, target: TargetName) -> Any:
    """What the name stands for. A module and a class may answer to a name by code of their own."""
    found: Any = module
    for part in target.name.split("."):
        if not hasattr(found, part):
            raise OpbenchError(f"target {target.text!r}: {nearest('name', part, _public(found))}")
        found = getattr(found, part)
    return found


def package_root(file: Path) -> Path:
    """The folder that a file's outermost package lies in; the file's own folder where it is part of none."""
    folder = file.resolve().parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _what_to_add(error: BaseException, target: TargetName) -> str:
    """What mends an import that failed for want of a package; "" for anything else."""
    if isinstance(error, ImportError) and "relative import" in text_of(error):
        above = package_root(Path(target.source))
        return f": it is part of a package; add --path {above if above != Path.cwd() else '.'}, the folder it lies in"
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    package = error.name.partition(".")[0]
    return f": install {package}, or add --path FOLDER, the folder that holds {package}"


def _from_file(path: Path, folders: Sequence[str] = ()) -> ModuleType:
    known = file_loaded(path)
    if known is not None:
        return known
    for folder in folders:
        if path.resolve().is_relative_to(Path(folder).resolve()):
            parts = path.resolve().relative_to(Path(folder).resolve()).with_suffix("").parts
            if len(parts) > 1 and all(part.isidentifier() for part in parts):
                return importlib.import_module(".".join(parts))
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


def asked_for(kind: str, names: Sequence[str], only: Sequence[str], skip: Sequence[str]) -> set[str]:
    """Which of the names `--only` and `--skip` leave. OpbenchError for one that is none's."""
    for option, given in (("--only", only), ("--skip", skip)):
        for name in given:
            if name not in names:
                raise OpbenchError(f"{option}: {nearest(kind, name, names)}")
    return set(only or names) - set(skip)


def assignments(option: str, texts: Sequence[str]) -> dict[str, Value]:
    """`NAME=VALUE` pairs of a command-line option.

    Values are numbers, true, false, None, lists as in [1,2], 'quoted' or plain words.
    """
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
    if text[0] in "[('\"" or text == "None":
        with contextlib.suppress(ValueError, SyntaxError):
            found = ast.literal_eval(text)
            if found is None or isinstance(found, (list, tuple, str)):
                return found
    return text
