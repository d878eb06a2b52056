"""`opbench claims`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import OUTPUT, Argument, Option, With


class ClaimsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which documents to ask."""

    runs: Annotated[tuple[Path, ...], Argument("Run documents to ask.", metavar="[RUN.json...]")] = ()
    as_json: Annotated[
        bool, Option("Print the answers as JSON, with how each was read.", flag="--json", repeats=False, group=OUTPUT)
    ] = False
    with_: With = ()


def claims(request: ClaimsRequest) -> Exit:
    """Hold what papers and write-ups claim of operators against counts, definitions and measurements."""
    from opbench.analyse.claims.answers import evaluate
    from opbench.analyse.claims.nouns import Answers
    from opbench.documents import read, render
    from opbench.report.lines import say, say_json
    from opbench.schema import Run

    answers = evaluate([read(path, Run) for path in request.runs])
    if request.as_json:
        say_json(render(Answers(tuple(answers))))
    else:
        from opbench.report.claims import summary, unclaimed
        from opbench.report.screen import screen

        screen().show(summary(answers))
        for sentence in unclaimed():
            say(sentence)
    return Exit.FINE  # whatever they are: a refuted claim is no fault of the code


COMMAND = Command("claims", ClaimsRequest, claims)
