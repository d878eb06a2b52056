"""The application that every command joins, and the kinds of argument that they share."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="opbench",
    help="What CARAFE and DCNv3 really cost against Upsample and Conv, and whether your implementation is right.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich's renderer would double the time to print it
)

Many = list[str] | None


def share(text: str) -> float:
    """`1%` or `0.01`."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise typer.BadParameter(f"expected a share such as 1% or 0.01, got {text!r}")
    return value
