"""`opbench study`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import msgspec

from opbench.commands import Command
from opbench.exit_codes import Exit
from opbench.options import (
    CASES,
    INPUT,
    MEASURING,
    Argument,
    Option,
    Quiet,
    Verbose,
    With,
    command_line,
    folder,
    loudness,
)


class StudyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Which studies, how much of them, and where the report goes."""

    studies: Annotated[tuple[str, ...], Argument("upsample, conv3x3, downsample [all].", metavar="[NAME...]")] = ()
    output: Annotated[
        Path,
        folder("Folder for study.json, study.md and charts."),
    ] = Path("results/local/study")
    images: Annotated[str, Option("photographs (with the ultralytics extra), generated, or auto.", group=INPUT)] = (
        "auto"
    )
    seeds: Annotated[int, Option("Seeds that every contender is trained with.", group=MEASURING)] = 6
    processes: Annotated[
        int, Option("Trainings side by side [as many as there are cores].", least=0, group=MEASURING)
    ] = 0
    quick: Annotated[bool, Option("Two steps of tiny data, to see that it works.", group=CASES)] = False
    resume: Annotated[bool, Option("Go on with the interrupted study in -o DIR.", repeats=False)] = False
    document: Annotated[
        Path | None, Option("Train nothing: write this document's report.", flag="--from", metavar="STUDY.json")
    ] = None
    quiet: Quiet = False
    verbose: Verbose = False
    with_: With = ()


def study(request: StudyRequest) -> Exit:
    """Train small networks with each operator in the slot: do they learn, and what do they do to the score?"""
    from opbench.documents import read
    from opbench.report.screen import screen, status
    from opbench.report.study import write_study
    from opbench.study.document import PART, StudyDocument
    from opbench.study.run import Extent, TrainingLostError, run_study
    from opbench.study.studies import STUDIES

    shown, output = screen(), request.output
    if request.document is not None:
        shown.line(f"report: {write_study(read(request.document, StudyDocument), output)}")
        return Exit.FINE
    extent = Extent(request.studies or tuple(STUDIES), request.seeds, request.images, request.processes, request.quick)
    # The source of images that was taken, whatever is installed by the time that the study is repeated.
    repeated = command_line("study", msgspec.structs.replace(request, studies=extent.studies, images=extent.source))
    with status("study", loudness=loudness(request)) as told:

        def progress(done: int, total: int, what: str) -> None:
            told(f"study: {done} of {total} trainings ({what})")

        try:
            found = run_study(extent, repeated, output, progress, resume=request.resume)
        except KeyboardInterrupt:
            code, why = Exit.INTERRUPTED, "interrupted"
        except TrainingLostError as lost:
            code, why = Exit.BAD_NEWS, str(lost)
        else:
            shown.line(f"report: {write_study(found, output)}")
            return Exit.FINE
    part = output / PART
    again = command_line("study", StudyRequest(document=part))
    shown.line(f"{why}; what was trained is in {part} (its report: {again} -o FOLDER); to go on:")
    shown.line(f"{repeated} -o {shlex.quote(str(output))} --resume")
    return code


COMMAND = Command("study", StudyRequest, study)
