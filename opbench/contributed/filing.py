"""Contributed runs in a results folder: a folder a machine below `devices/`, four files a run, named by what it is.

    devices/MACHINE/STARTED-COMMIT-HASH.run.json            the run document, byte for byte
    devices/MACHINE/STARTED-COMMIT-HASH.digest.json         its digest, made anew from the samples
    devices/MACHINE/STARTED-COMMIT-HASH.verification.json   what `opbench verify-run` found
    devices/MACHINE/STARTED-COMMIT-HASH.run.log             the contributor's log, where the bundle has one

The names of the first two are those of a history, so that all that reads a results folder reads them as well.
"""

from __future__ import annotations

from pathlib import Path

from opbench import documents
from opbench.analyse.history.digest import digest
from opbench.analyse.history.retention import name_of
from opbench.analyse.history.store import DIGEST_SUFFIX, RUN_SUFFIX
from opbench.contributed.nouns import Submission, Verification
from opbench.documents import replace_file
from opbench.engine.log import NAME as LOG
from opbench.schema import OpbenchError

DEVICES = "devices"
VERIFICATION_SUFFIX = ".verification.json"


def file_submission(given: Submission, found: Verification, root: Path) -> Path:
    """Puts a verified submission into a results folder and returns the path of its run document.

    Filing one twice changes nothing but the verification. Raises `OpbenchError` for one that was refused.
    """
    if found.status == "refused":
        raise OpbenchError(f"not filed: {len(found.signs)} signs of a change were found")
    made = digest(given.run, given.document)
    stem = root / DEVICES / made.machine / name_of(made)
    files = {RUN_SUFFIX: given.document, DIGEST_SUFFIX: documents.render(made)}
    if given.log is not None:
        files[f".{LOG}"] = given.log.encode()
    for suffix, content in {**files, VERIFICATION_SUFFIX: documents.render(found)}.items():
        replace_file(stem.with_name(stem.name + suffix), content)
    return stem.with_name(stem.name + RUN_SUFFIX)


def verification_of(root: Path, path: str, sha256: str) -> Verification | None:
    """What was found of the run document at `path` of a results folder; None where it was never verified.

    One that is of another document, or can't be read, is none.
    """
    if not path.endswith(RUN_SUFFIX):
        return None
    try:
        found = documents.read(root / (path.removesuffix(RUN_SUFFIX) + VERIFICATION_SUFFIX), Verification)
    except OpbenchError:
        return None
    return found if found.sha256 == sha256 else None
