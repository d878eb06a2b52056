"""`opbench export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import OUTPUT, Argument, Option, With


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which documents, as what, and where to."""

    runs: Annotated[tuple[Path, ...], Argument("Run documents.", metavar="RUN.json...")]
    format_: Annotated[
        str,
        Option(
            "github-action-benchmark, github-action-benchmark-bigger, bencher, pytest-benchmark, asv (a folder), "
            "openmetrics, csv, parquet.",
            flag="--format",
            metavar="NAME",
        ),
    ]
    output: Annotated[Path, Option("The file, or the folder for asv.", short="-o", metavar="DIR", group=OUTPUT)]
    with_: With = ()


def export(request: ExportRequest) -> Exit:
    """Write run documents as what other dashboards read; the same documents give the same bytes."""
    from opbench.documents import read
    from opbench.errors import nearest
    from opbench.report import exports
    from opbench.report.lines import say
    from opbench.schema import OpbenchError, Run

    if request.format_ not in exports.FORMATS:
        raise OpbenchError(nearest("format", request.format_, exports.FORMATS))
    runs = [read(path, Run) for path in request.runs]
    for path in exports.export(runs, request.format_, request.output):
        say(f"written: {path}")
    return Exit.FINE


COMMAND = Command("export", ExportRequest, export)
