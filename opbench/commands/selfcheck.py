"""`opbench selfcheck`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import MEASURING, OUTPUT, Option, Quiet, Verbose, With, command_line, loudness, seconds


class SelfcheckRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How many trials of which kind, and how precise."""

    output: Annotated[Path, Option("Folder for selfcheck.json, .md and .svg.", short="-o", metavar="DIR", group=OUTPUT)]
    rivals: Annotated[bool, Option("Have other tools judge the same pairs.")] = False
    identical: Annotated[int, Option("Comparisons of identical code.", least=0, group=MEASURING)] = 200
    planted: Annotated[int, Option("Comparisons of each planted slow-down.", least=0, group=MEASURING)] = 40
    processes: Annotated[int, Option("Fresh processes, quiet and loaded each.", least=1, group=MEASURING)] = 5
    layouts: Annotated[int, Option("Pairs of fresh processes of identical code.", least=0, group=MEASURING)] = 8
    threads: Annotated[int, Option("CPU threads.", least=1, group=MEASURING)] = 1
    precision: Annotated[
        float, Option("Half-width of each ratio's 95 % interval.", metavar="SHARE", share=True, group=MEASURING)
    ] = 0.01
    budget: Annotated[float, seconds("Seconds per pair at most.", least=0.0)] = 4.0
    seed: Annotated[int, Option("Seed of every random order.", least=0, group=MEASURING)] = 0
    quiet: Quiet = False
    verbose: Verbose = False
    with_: With = ()


def selfcheck(request: SelfcheckRequest) -> Exit:
    """Measure this machine's false-alarm rate and the slow-downs it can find, quiet and beside a busy process."""
    from opbench.documents import KINDS, replace_file, save
    from opbench.engine import selfcheck as engine
    from opbench.report.screen import screen, status
    from opbench.report.selfcheck import chart, markdown, summary

    extent = engine.SelfcheckExtent(
        identical=request.identical,
        planted=request.planted,
        processes=request.processes,
        threads=request.threads,
        precision=request.precision,
        budget_seconds=request.budget,
        external_tools=request.rivals,
        seed=request.seed,
        layouts=request.layouts,
    )
    with status("selfcheck", loudness=loudness(request)) as told:
        found = engine.selfcheck(
            extent,
            command_line("selfcheck", request),
            lambda done, total: told(f"selfcheck: {done} of {total} trials"),
        )
    save(found, request.output / KINDS["selfcheck"].file)
    replace_file(request.output / "selfcheck.md", markdown(found).encode())
    replace_file(request.output / "selfcheck.svg", chart(found).encode())
    shown = screen()
    shown.show(summary(found))
    shown.line(f"report: {request.output / 'selfcheck.md'}")
    return Exit.FINE


COMMAND = Command("selfcheck", SelfcheckRequest, selfcheck)
