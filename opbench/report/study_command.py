"""`opbench study`: trains, or takes a study document, and writes the report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from opbench import registry
from opbench.documents import read
from opbench.report.study import write_study
from opbench.study.document import PART, StudyDocument
from opbench.study.run import Extent, TrainingLostError, run_study
from opbench.study.studies import STUDIES

INTERRUPTED = 130


def study_command(
    studies: Sequence[str],
    output: Path,
    *,
    seeds: int,
    images: str,
    processes: int,
    quick: bool,
    document: Path | None,
) -> int:
    """Writes study.json, study.md and charts into a folder; from `document`, only the last two.

    Exit codes: 0, 1 where a training process was lost, 130 after Ctrl-C; either keeps what was trained.
    """
    console = Console(width=None if sys.stdout.isatty() else 160)
    if document is not None:
        _say(console, f"report: {write_study(read(document, StudyDocument), output)}")
        return 0
    extent = Extent(tuple(studies) or tuple(STUDIES), seeds, images, processes, quick)
    with console.status("study") as status:

        def progress(done: int, total: int, what: str) -> None:
            status.update(f"study: {done} of {total} trainings ({what})")

        try:
            study = run_study(extent, _command(extent), output, progress)
        except KeyboardInterrupt:
            code, why = INTERRUPTED, "interrupted"
        except TrainingLostError as lost:
            code, why = 1, str(lost)
        else:
            _say(console, f"report: {write_study(study, output)}")
            return 0
    part = output / PART
    _say(console, f"{why}; what was trained is in {part} (its report: opbench study --from {part} -o FOLDER)")
    return code


def _command(extent: Extent) -> str:
    """What repeats the study: the source of images that was taken, whatever is installed by then."""
    words = ["opbench", "study", *extent.studies, "--images", extent.source, "--seeds", str(extent.seeds)]
    words += ["--quick"] if extent.quick else []
    words += [part for path in registry.added_files() for part in ("--with", path)]
    return shlex.join([*words, "-o", "DIR"])


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)
