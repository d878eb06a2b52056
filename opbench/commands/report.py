"""`opbench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import OUTPUT, Argument, Lang, Option, With
from opbench.schema import OpbenchError


class ReportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which documents, and where their reports go."""

    runs: Annotated[tuple[Path, ...], Argument("Run documents, or the document of a device.", metavar="RUN.json...")]
    output: Annotated[
        Path, Option("Folder for report.md, report.html and charts.", short="-o", metavar="DIR", group=OUTPUT)
    ]
    lang: Lang = "en"
    with_: With = ()


def report(request: ReportRequest) -> Exit:
    """Write the report of a run document, the same bytes every time; of several, also a page that compares them.

    The document that on_device.py has written on a device (see opbench deploy) is reported by itself.
    """
    from opbench.deploy.nouns import DeviceRun
    from opbench.documents import read
    from opbench.report import machines
    from opbench.report.deployment import write_device
    from opbench.report.lines import say
    from opbench.report.markdown import write
    from opbench.schema import Run
    from opbench.slug import slug

    found = [read(path, Run, DeviceRun) for path in request.runs]
    runs = [one for one in found if isinstance(one, Run)]
    for one in found:
        if isinstance(one, DeviceRun):
            if len(found) > 1:
                raise OpbenchError("the document of a device is reported alone: name one at a time")
            say(f"report: {write_device(one, request.output)}")
            return Exit.FINE
    for position, run in enumerate(runs, start=1):
        # Of several, each has a folder of its own; a suite may be called anything, ../.. too.
        folder = request.output if len(runs) == 1 else request.output / f"{position}-{slug(run.settings.suite)}"
        say(f"report: {write(run, folder, request.lang)}")
    if len(runs) > 1:
        say(f"side by side: {machines.write(runs, request.output)}")
    return Exit.FINE


COMMAND = Command("report", ReportRequest, report)
