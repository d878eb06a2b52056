"""The parts of the reference that are generated from what the package declares: `part(name)` is Markdown."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, get_args

import click
import msgspec

from opbench.schema import DTYPES, OpbenchError, Outcome, Run


def part(name: str) -> str:
    """The generated part that a page asks for by `<!-- declared: name -->`."""
    if name not in _PARTS:
        raise OpbenchError(f"there is no generated part {name!r} (known: {', '.join(_PARTS)})")
    return "\n".join(_PARTS[name]())


@cache
def application() -> click.Group:
    """The command line, as it is parsed."""
    from typer.main import get_command

    from opbench.cli import app

    found: Any = get_command(app)
    return found


@cache
def commands() -> Mapping[str, click.Command]:
    """Every command by its name, in the order of `opbench --help`."""
    group = application()
    context = click.Context(group, info_name="opbench")
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def _commands() -> Iterator[str]:
    for name, command in commands().items():
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [one for one in command.params if one.param_type_name == "option"]
        said = [one.metavar or one.name or "" for one in arguments]
        yield f"## opbench {name}\n"
        yield f"`opbench {' '.join([name, *map(_placeholder, said, arguments), '[OPTIONS]'])}`\n"
        yield f"{_cell(inspect.cleandoc(command.help or ''))}\n"
        yield "| argument or option | meaning | default |"
        yield "| --- | --- | --- |"
        for one in arguments:
            yield f"| `{one.metavar or one.name}` | {_cell(getattr(one, 'help', None) or '')} | |"
        for one in options:
            names = ", ".join(f"`{word}`" for word in one.opts)
            metavar = f" `{one.metavar}`" if one.metavar else ""
            meaning = _cell(getattr(one, "help", None) or "")
            yield f"| {names}{metavar} | {meaning} | {_default(one)} |"
        yield ""


def _placeholder(said: str, argument: click.Parameter) -> str:
    bare = said.strip("[]")
    return bare if argument.required else f"[{bare}]"


def _default(one: click.Parameter) -> str:
    value = one.default
    if value is None or value is False or value in ("", ()) or not isinstance(value, bool | int | float | str):
        return "required" if one.required else ""
    return f"`{value}`"


def _cell(text: str) -> str:
    """One line of text that no table and no tag in it can break."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


def _run_document() -> Iterator[str]:
    """Every type of the run document, by walking its fields from `Run` on."""
    waiting, seen = [Run], set()
    while waiting:
        type_ = waiting.pop(0)
        if type_ in seen:
            continue
        seen.add(type_)
        yield f"## {type_.__name__}\n"
        yield inspect.cleandoc(type_.__doc__ or "") + "\n"
        yield "| field | type | required |"
        yield "| --- | --- | --- |"
        for one in msgspec.structs.fields(type_):
            yield f"| `{one.encode_name}` | {_type(one.type)} | {'yes' if one.required else ''} |"
            waiting += [found for found in _structs(one.type) if found not in seen]
        yield ""


def _structs(type_: Any) -> list[Any]:
    if inspect.isclass(type_) and issubclass(type_, msgspec.Struct):
        return [type_]
    return [found for inner in get_args(type_) for found in _structs(inner)]


def _type(type_: Any) -> str:
    """A type in words a reader of JSON knows; types of the document are links to their own table."""
    if found := [one for one in _structs(type_) if one is type_]:
        return f"[{found[0].__name__}](#{found[0].__name__.lower()})"
    inner = get_args(type_)
    origin = getattr(type_, "__origin__", None)
    if origin is tuple:
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return f"object of {_type(inner[1])}"
    if inner and all(isinstance(one, str) for one in inner):
        return "one of " + ", ".join(f"`{one}`" for one in inner)
    if inner:
        return " or ".join(_type(one) for one in inner)
    return {int: "integer", float: "number", str: "text", bool: "boolean", type(None): "null"}.get(type_, str(type_))


def _exports() -> Iterator[str]:
    from opbench.report.exports import FORMATS

    yield "| `--format` | read by | holds | module |"
    yield "| --- | --- | --- | --- |"
    for name, found in FORMATS.items():
        holds = (
            "a run, a comparison or a check" if found.verdicts else "one run" if found.one or found.fitting
            else "several runs, one file" if found.many else "several runs, a folder"
        )  # fmt: skip
        yield f"| `{name}` | {_cell(found.reader)} | {holds} | {_module(found)} |"
    yield ""


def _module(found: Any) -> str:
    function = found.one or found.fitting or found.many or found.folder or found.verdicts
    return f"`{function.__module__}`"


def _columns() -> Iterator[str]:
    from opbench.report.exports.columns import COLUMNS

    yield "| column | type |"
    yield "| --- | --- |"
    kinds = {"text": "text", "whole": "64-bit integer", "real": "64-bit float", "truth": "boolean"}
    yield from (f"| `{one.name}` | {kinds[one.kind]} |" for one in COLUMNS)
    yield ""


def _gauges() -> Iterator[str]:
    from opbench.report.exports.metrics.families import GAUGES

    yield "| metric | unit | meaning |"
    yield "| --- | --- | --- |"
    yield from (f"| `{one.name}` | {one.unit} | {_cell(one.help)} |" for one in GAUGES)
    yield ""


def outcomes() -> tuple[str, ...]:
    """Every outcome that a record can have."""
    return get_args(Outcome)


def _suites() -> Iterator[str]:
    from opbench import suites

    yield "| suite | what it measures | workloads |"
    yield "| --- | --- | --- |"
    for name in suites.names():
        found = suites.load(name)
        yield f"| `{name}` | {_cell(found.title)} | {len(found.workloads)} |"
    yield ""


def _operators() -> Iterator[str]:
    from opbench import registry

    yield "| operator | slot | settings | implementations | source |"
    yield "| --- | --- | --- | --- | --- |"
    for (task, name), found in _declared_operators(registry).items():
        settings = ", ".join(f"`{key}={value}`" for key, value in found.settings.items())
        ways = ", ".join(f"`{way}`" for way in found.implementations)
        yield f"| `{name}` | `{task}` | {settings} | {ways} | {_cell(found.source)} |"
    yield ""


def _declared_operators(registry: Any) -> dict[tuple[str, str], Any]:
    registry.load()
    return {(task, name): one for task in registry.tasks() for name, one in registry.operators(task).items()}


def _implementations() -> Iterator[str]:
    """Those of the cores: modules are computed by the same ones."""
    from opbench import registry

    yield "| core | implementation | devices | dtypes | repeatable gradients | note |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for (task, _), found in _declared_operators(registry).items():
        if not task.endswith("_core"):
            continue
        for name, one in found.implementations.items():
            dtypes = "all" if set(one.dtypes) == set(DTYPES) else ", ".join(one.dtypes)
            repeatable = "yes" if one.deterministic_backward else "no"
            yield f"| `{task}` | `{name}` | {', '.join(one.devices)} | {dtypes} | {repeatable} | {_cell(one.note)} |"
    yield ""


def _exporting() -> Iterator[str]:
    """Which graphs of each operator the runtimes of files can be given, and which stay in torch."""
    from opbench import registry
    from opbench.runtimes import RUNTIMES

    names = [name for name, runtime in RUNTIMES.items() if runtime.records]
    yield f"| slot | operator | {' | '.join(f'`{name}`' for name in names)} | torch alone |"
    yield f"| --- | --- | {' | '.join('---' for _ in names)} | --- |"
    for (task, name), found in _declared_operators(registry).items():
        ways = found.implementations.values()
        able = ", ".join(f"`{one.name}`" for one in ways if not one.obstacle_to_export) or "none"
        kept = ", ".join(f"`{one.name}`" for one in ways if one.obstacle_to_export)
        yield f"| `{task}` | `{name}` | {' | '.join(able for _ in names)} | {kept} |"
    yield ""


_PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "commands": _commands,
    "run-document": _run_document,
    "exports": _exports,
    "columns": _columns,
    "gauges": _gauges,
    "suites": _suites,
    "operators": _operators,
    "implementations": _implementations,
    "exporting": _exporting,
}
