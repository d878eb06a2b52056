"""Whether what an interrupted study has trained belongs to the study that wants to go on with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from opbench.documents import encode, read
from opbench.engine.resuming import differences, refuse
from opbench.schema import Environment
from opbench.study.document import NAME, PART, StudyDocument, StudyResult


def earlier(
    folder: Path, laid_out: Sequence[StudyResult], surroundings: Environment, quick: bool
) -> StudyDocument | None:
    """The document in the folder, unfinished or finished, of the studies that are laid out; None where there is none.

    Raises OpbenchError where it is of other studies, of another machine or of other versions.
    """
    path = next((folder / name for name in (PART, NAME) if (folder / name).exists()), None)
    if path is None:
        return None
    found = read(path, StudyDocument)
    reasons = differences(found.environment, surroundings)
    if found.quick != quick:
        reasons.append(f"--quick {'there' if found.quick else 'here'} alone")
    before, now = ({result.name: encode(_untrained(result)) for result in one} for one in (found.studies, laid_out))
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed or list(before) != list(now):
        reasons.append(f"the study {changed[0]} is not what it was" if changed else "its studies are in another order")
    refuse(path, reasons)
    return found


def _untrained(result: StudyResult) -> StudyResult:
    """The study as it was before its first training."""
    contenders = tuple(replace(one, rate=None, step_seconds=()) for one in result.contenders)
    return replace(result, trainings=(), contenders=contenders, step_phase="")
