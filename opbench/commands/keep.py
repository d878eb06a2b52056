"""`opbench keep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import Argument, Option
from opbench.schema import OpbenchError


class KeepRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which documents, into which folder, and how many keep their raw samples."""

    runs: Annotated[tuple[Path, ...], Argument("Run documents.", metavar="RUN.json...")]
    into: Annotated[Path, Option("The results folder, or an address (s3://...).", flag="--in", metavar="RESULTS")] = (
        Path("results")
    )
    raw: Annotated[
        int | None,
        Option("Let go of raw samples of all but the newest N runs of a machine.", least=0, metavar="N"),
    ] = None


def keep(request: KeepRequest) -> Exit:
    """Append runs to a results folder's history, one file a run, named by machine, time and commit."""
    from opbench.analyse.history import retention
    from opbench.report.lines import say
    from opbench.storage.address import address_of

    address = address_of(request.into)
    if address is not None and request.raw is not None:
        raise OpbenchError(f"--raw: {address} is no folder, and what lies at an address is never changed")
    for document in request.runs:
        kept = retention.keep(document, request.into) if address is None else retention.keep_at(document, address)
        say(f"{'kept' if kept.new else 'already there'}: {address or request.into}/{kept.path}")
    if request.raw is not None:
        for path in retention.let_go(request.into, request.raw):
            say(f"raw samples let go, digest kept: {request.into / path}")
    return Exit.FINE


COMMAND = Command("keep", KeepRequest, keep)
