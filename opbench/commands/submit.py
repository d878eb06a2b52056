"""`opbench submit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import OUTPUT, Argument, Option


class SubmitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which run, into which file, and what its contributor says of it."""

    run: Annotated[Path, Argument("A run document, or the folder of a run.", metavar="RUN.json")]
    output: Annotated[
        Path | None, Option("The bundle's file [MACHINE-SUITE.bundle.zip].", short="-o", metavar="FILE", group=OUTPUT)
    ] = None
    contributor: Annotated[str, Option("Your name or account, shown beside the machine.", metavar="NAME")] = ""
    note: Annotated[str, Option("What a reader should know of the machine.", metavar="WORDS")] = ""


def submit(request: SubmitRequest) -> Exit:
    """Pack a run with its samples, environment, log and seeds into a bundle that anybody can verify."""
    from opbench.contributed.bundle import SUFFIX, opened, pack
    from opbench.contributed.verifying import verify
    from opbench.documents import replace_file
    from opbench.report.contributions import lines
    from opbench.report.lines import say
    from opbench.slug import slug

    data = pack(request.run, contributor=request.contributor, note=request.note)
    given = opened(data)
    found = verify(given, within_seconds=0)
    for line in lines(found, signs_only=True):
        say(line)
    path = request.output or Path(f"{found.machine}-{slug(found.suite)}{SUFFIX}")
    replace_file(path, data)
    say(f"bundle: {path} ({len(data):,} bytes)")
    if found.signs:
        say("as it is, `opbench verify-run` refuses it", error=True)
        return Exit.BAD_NEWS
    say(f"what anybody finds: opbench verify-run {path}")
    return Exit.FINE


COMMAND = Command("submit", SubmitRequest, submit)
