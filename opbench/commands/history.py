"""`opbench history`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import Argument, AsJson, Option
from opbench.schema import OpbenchError


class HistoryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Of which case, in which folder, how far back."""

    case: Annotated[str, Argument("A case's id, or a part that few ids have.", metavar="CASE")]
    results: Annotated[Path, Argument("The results folder.", metavar="[RESULTS]")] = Path("results")
    last: Annotated[int, Option("Show the newest N runs.", least=1, metavar="N")] = 40
    as_json: AsJson = False


def history(request: HistoryRequest) -> Exit:
    """Show a case over the runs of a results folder: where it got slower, and with which commit."""
    from opbench.analyse.history.commits import by_commit
    from opbench.analyse.history.store import checked, read
    from opbench.report.history import history_json, problems, shown
    from opbench.report.lines import say, say_json
    from opbench.report.screen import screen

    store = by_commit(read(request.results))
    store = checked(store, store.runs[-request.last :])
    for problem in problems(store):
        say(f"opbench: {problem}", error=True)
    if not store.digests:
        raise OpbenchError(
            f"{request.results}: no readable run document in it, so there is no history "
            "(`opbench keep RUN.json` adds one)"
        )
    if request.as_json:
        say_json(history_json(store, request.case, request.last))
    else:
        screen().show(*shown(store, request.case, request.last))
    return Exit.FINE


COMMAND = Command("history", HistoryRequest, history)
