"""The application that every command joins, and the kinds of argument that they share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

Command = TypeVar("Command", bound=Callable[..., Any])

app = typer.Typer(
    name="opbench",
    help="What CARAFE and DCNv3 really cost against Upsample and Conv, and whether your implementation is right.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich's renderer would double the time to print it
)

Many = list[str] | None
With = Annotated[Many, typer.Option("--with", metavar="FILE.py", help="A file whose declarations count.")]


def command(name: str | None = None) -> Callable[[Command], Command]:
    """Declares a command that works with operators: it takes `--with FILE.py`, and so do the processes it starts."""

    def declare(function: Command) -> Command:
        @functools.wraps(function)
        def with_files(with_: Many = None, **arguments: Any) -> Any:
            if with_:
                from opbench.registry import add_files

                add_files(with_)
            return function(**arguments)

        hints = {**get_type_hints(function, include_extras=True), "with_": With}
        given = [one.replace(annotation=hints[name]) for name, one in inspect.signature(function).parameters.items()]
        option = inspect.Parameter("with_", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=With)
        with_files.__signature__ = inspect.Signature([*given, option])  # type: ignore[attr-defined]
        with_files.__annotations__ = hints
        app.command(name)(with_files)
        return function

    return declare


def share(text: str) -> float:
    """`1%` or `0.01`."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise typer.BadParameter(f"expected a share such as 1% or 0.01, got {text!r}")
    return value
