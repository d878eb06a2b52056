"""`opbench study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opbench.cli.app import Many, command


@command()
def study(
    studies: Annotated[Many, typer.Argument(metavar="[NAME...]", help="upsample, conv3x3 [both].")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for study.json, study.md and charts.")] = Path(
        "results/local/study"
    ),
    seeds: Annotated[int, typer.Option(help="Seeds that every contender is trained with.")] = 6,
    images: Annotated[str, typer.Option(help="photographs (with the ultralytics extra), generated, or auto.")] = "auto",
    processes: Annotated[int, typer.Option(min=0, help="Trainings side by side [as many as there are cores].")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Two steps of tiny data, to see that it works.")] = False,
    document: Annotated[
        Path | None, typer.Option("--from", metavar="STUDY.json", help="Train nothing: write this document's report.")
    ] = None,
) -> None:
    """Train small networks with each operator in the slot: do they learn, and what do they do to the score?"""
    from opbench.report.study_command import study_command

    code = study_command(
        studies or (), output, seeds=seeds, images=images, processes=processes, quick=quick, document=document
    )
    raise typer.Exit(code)
