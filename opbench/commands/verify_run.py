"""`opbench verify-run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import Argument, AsJson, Option


class VerifyRunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which bundle, for how long, and where it goes if nothing speaks against it."""

    bundle: Annotated[Path, Argument("A bundle that `opbench submit` wrote, or a run document.", metavar="BUNDLE")]
    into: Annotated[
        Path | None, Option("File it below RESULTS/devices unless it is refused.", flag="--in", metavar="RESULTS")
    ] = None
    within: Annotated[
        float | None, Option("Seconds after which no other definition is evaluated.", least=0.0, metavar="SECONDS")
    ] = None
    as_json: AsJson = False


def verify_run(request: VerifyRunRequest) -> Exit:
    """Derive again, on any machine, all that a contributed run holds: statistics, counts, inputs, bounds, clocks."""
    from opbench import registry
    from opbench.contributed.bundle import open_bundle
    from opbench.contributed.filing import file_submission
    from opbench.contributed.verifying import verify
    from opbench.documents import render
    from opbench.report.contributions import lines
    from opbench.report.lines import say, say_json

    registry.load_built_in()
    given = open_bundle(request.bundle)
    found = verify(given, within_seconds=request.within)
    if request.as_json:
        say_json(render(found))
    else:
        for line in lines(found):
            say(line)
    if found.status == "refused":
        return Exit.BAD_NEWS
    if request.into is not None:
        say(f"filed: {file_submission(given, found, request.into)}", error=request.as_json)
    return Exit.FINE


COMMAND = Command("verify-run", VerifyRunRequest, verify_run)
