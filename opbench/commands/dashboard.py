"""`opbench dashboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import OUTPUT, Argument, Lang, Option, With


class DashboardRequest(msgspec.Struct, frozen=True, kw_only=True):
    """From which folder, into which."""

    results: Annotated[Path, Argument("A folder of run documents, at any depth.", metavar="RESULTS_DIR")]
    output: Annotated[Path, Option("Folder for index.html.", short="-o", metavar="SITE_DIR", group=OUTPUT)]
    lang: Lang = "en"
    with_: With = ()


def dashboard(request: DashboardRequest) -> Exit:
    """Put every run of a folder on one page that needs no network: contenders, trends, differences, proof."""
    from opbench.analyse.claims.answers import evaluate
    from opbench.report.dashboard.site import write_site
    from opbench.report.lines import say

    written = write_site(request.results, request.output, evaluate, request.lang)
    for sentence in written.problems:
        say(sentence)
    say(f"dashboard: {written.page}")
    return Exit.FINE


COMMAND = Command("dashboard", DashboardRequest, dashboard)
