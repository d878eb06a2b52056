"""`opbench dashboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opbench.cli.app import command


@command()
def dashboard(
    results: Annotated[Path, typer.Argument(metavar="RESULTS_DIR", help="A folder of run documents, at any depth.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="SITE_DIR", help="Folder for index.html.")],
) -> None:
    """Put every run of a folder on one page that needs no network: contenders, trends, differences, proof."""
    from opbench.report.dashboard.site import run_dashboard

    raise typer.Exit(run_dashboard(results, output))
