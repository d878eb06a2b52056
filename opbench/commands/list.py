"""`opbench list`: what is declared."""

from __future__ import annotations

from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.listing.tables import What
from opbench.options import Argument, AsJson, Option, With

# Format history of `opbench list --json`:
#   1  first version
LISTING_VERSION = 1


class ListRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to list."""

    what: Annotated[What, Argument("What to list.")] = "operators"
    suite: Annotated[str, Option("The suite whose workloads to list.", metavar="SUITE")] = "default"
    as_json: AsJson = False
    with_: With = ()


def list_(request: ListRequest) -> Exit:
    """List tasks, operators, implementations (and why one can't run here), suites or a suite's workloads."""
    from opbench.listing.kept import listed

    found = listed(request.what, request.suite)
    if request.as_json:
        from opbench.report.json_answer import answer
        from opbench.report.lines import say_json

        rows = [dict(zip(found.header, row, strict=True)) for row in found.rows]
        say_json(answer("listing", LISTING_VERSION, {"what": request.what, request.what: rows}))
    else:
        from opbench.report.screen import screen

        screen().table(found.header, found.rows, names=found.names)
    return Exit.FINE


COMMAND = Command("list", ListRequest, list_)
