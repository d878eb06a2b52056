"""`opbench export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import OUTPUT, Argument, Option, With

if TYPE_CHECKING:
    from opbench.report.exports.selection import Selection

# As `-o`: standard output, for a format of one file of text.
STANDARD_OUTPUT = "-"


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which documents, as what, and where to."""

    runs: Annotated[
        tuple[Path, ...],
        Argument(
            "Run documents; for junit, sarif, github-annotations and badge also what compare --json or check --json "
            "printed.",
            metavar="RUN.json...",
        ),
    ]
    format_: Annotated[
        str,
        Option(
            "github-action-benchmark, github-action-benchmark-bigger, bencher, pytest-benchmark, asv (a folder), "
            "prometheus, openmetrics, openmetrics-backfill, grafana, csv, parquet, junit, sarif, github-annotations, "
            "badge.",
            flag="--format",
            metavar="NAME",
        ),
    ]
    output: Annotated[
        Path, Option("The file, or the folder for asv; - prints a text.", short="-o", metavar="PATH", group=OUTPUT)
    ]
    select: Annotated[
        tuple[str, ...],
        Option(
            "Only cases whose id has this part, or fits it as in '*[cpu]' (repeatable); of a check, relations.",
            metavar="PART",
        ),
    ] = ()
    at: Annotated[
        str,
        Option("The file that sarif and github-annotations show findings at [where it is known].", metavar="FILE"),
    ] = ""
    with_: With = ()


def export(request: ExportRequest) -> Exit:
    """Write run documents, and what was found wrong, as what other tools read; the same documents give the same bytes.

    A verdict that is exported is told by the file alone: the exit code is that of writing it.
    """
    from opbench.documents import read
    from opbench.errors import nearest
    from opbench.report import exports
    from opbench.report.exports.selection import Selection
    from opbench.report.lines import say
    from opbench.schema import OpbenchError

    if request.format_ not in exports.FORMATS:
        raise OpbenchError(nearest("format", request.format_, exports.FORMATS))
    wanted = exports.readable(request.format_)
    documents = [read(path, *wanted) for path in request.runs]
    asked = (request.format_, request.output, Selection(request.select), request.at)
    if str(request.output) == STANDARD_OUTPUT:
        said = _printed(documents, *asked)
    else:
        written, said = exports.export(documents, *asked)
        for path in written:
            say(f"written: {path}")
    for sentence in said:
        say(f"opbench: {sentence}", error=True)
    return Exit.FINE


def _printed(documents: Sequence[Any], name: str, output: Path, selection: Selection, at: str) -> tuple[str, ...]:
    """Prints what would be written, and hands back what it does not hold."""
    from opbench.report import exports
    from opbench.report.lines import say_text
    from opbench.schema import OpbenchError

    if not exports.FORMATS[name].text:
        raise OpbenchError(f"{name} can't be printed: give -o a name")
    files, said = exports.contents(documents, name, output, selection, at)
    for content in files.values():
        say_text(content)
    return said


COMMAND = Command("export", ExportRequest, export)
