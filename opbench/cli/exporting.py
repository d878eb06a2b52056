"""`opbench export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opbench.cli.app import command


@command()
def export(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN.json...", help="Run documents.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="github-action-benchmark, github-action-benchmark-bigger, bencher, pytest-benchmark, asv (a folder), "
            "openmetrics, csv, parquet.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file, or the folder for asv.")],
) -> None:
    """Write run documents as what other dashboards read; the same documents give the same bytes."""
    from opbench.report.exports import run_export

    raise typer.Exit(run_export(runs, format_, output))
