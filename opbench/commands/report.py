"""`opbench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import Argument, Option, With


class ReportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which documents, and where their reports go."""

    runs: Annotated[tuple[Path, ...], Argument("Run documents.", metavar="RUN.json...")]
    output: Annotated[Path, Option("Folder for report.md, report.html and charts.", short="-o")]
    with_: With = ()


def report(request: ReportRequest) -> Exit:
    """Write the report of a run document, the same bytes every time; of several, also a page that compares them."""
    from opbench.documents import read
    from opbench.report import machines
    from opbench.report.lines import say
    from opbench.report.markdown import write
    from opbench.schema import Run
    from opbench.slug import slug

    runs = [read(path, Run) for path in request.runs]
    for position, run in enumerate(runs, start=1):
        # Of several, each has a folder of its own; a suite may be called anything, ../.. too.
        folder = request.output if len(runs) == 1 else request.output / f"{position}-{slug(run.settings.suite)}"
        say(f"report: {write(run, folder)}")
    if len(runs) > 1:
        say(f"side by side: {machines.write(runs, request.output)}")
    return Exit.FINE


COMMAND = Command("report", ReportRequest, report)
