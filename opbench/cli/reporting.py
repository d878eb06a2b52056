"""`opbench report` and `readme`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opbench.cli.app import command


@command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN.json...", help="Run documents.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for report.md, report.html and charts.")],
) -> None:
    """Write the report of a run document, the same bytes every time; of several, also a page that compares them."""
    from opbench.session import write_reports

    write_reports(runs, output)


@command()
def readme(
    file: Annotated[Path, typer.Argument(help="The file whose marked tables are written anew.")],
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if a table is out of date.")] = False,
) -> None:
    """Write the tables between `<!-- opbench:... -->` markers of a README from the run documents they name."""
    from opbench.session import update_readme

    raise typer.Exit(update_readme(file, check=check))
