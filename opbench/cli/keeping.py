"""`opbench keep` and `history`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opbench.cli.app import app


@app.command()
def keep(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN.json...", help="Run documents.")],
    into: Annotated[Path, typer.Option("--in", metavar="RESULTS", help="The results folder.")] = Path("results"),
    raw: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Let go of raw samples of all but the newest N runs of a machine."),
    ] = None,
) -> None:
    """Append runs to a results folder's history, one file a run, named by machine, time and commit."""
    from opbench.report.history import run_keep

    raise typer.Exit(run_keep(runs, into, raw))


@app.command()
def history(
    case: Annotated[str, typer.Argument(metavar="CASE", help="A case's id, or a part that few ids have.")],
    results: Annotated[Path, typer.Argument(metavar="[RESULTS]", help="The results folder.")] = Path("results"),
    last: Annotated[int, typer.Option(min=1, metavar="N", help="Show the newest N runs.")] = 40,
) -> None:
    """Show a case over the runs of a results folder: where it got slower, and with which commit."""
    from opbench.report.history import run_history

    raise typer.Exit(run_history(case, results, last))
