"""`opbench claims`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opbench.cli.app import command


@command()
def claims(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="[RUN.json...]", help="Run documents to ask.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON, with how each was read.")] = False,
) -> None:
    """Hold what papers and write-ups claim of CARAFE and DCNv3 against counts, definitions and measurements."""
    from opbench.report.claims import run_claims

    raise typer.Exit(run_claims(runs or [], as_json=as_json))
