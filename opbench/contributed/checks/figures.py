"""Every statistic that stands beside the samples, made of them again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from opbench import documents
from opbench.analyse.history.digest import Digest, digest
from opbench.contributed.nouns import CheckedPart, Said, Sign, Submission, UncheckedPart
from opbench.schema import OpbenchError

# What two versions of the same arithmetic may differ by.
TOLERANCE = 1e-9
# Of one entry that was changed, so many figures are named.
_TOLD = 4


def statistics(given: Submission) -> Iterator[Said]:
    """Medians, quartiles, ratios with their intervals, and what a history compares, from the document alone."""
    if given.digest is None:
        yield UncheckedPart(
            "statistics beside the document", "there are none: every figure shown is made of the samples"
        )
        return
    try:
        told = documents.parse(given.digest, Digest)
    except OpbenchError as error:
        yield Sign("statistics", "digest", str(error))
        return
    made = digest(given.run, given.document)
    ours, theirs = ({entry.case.id: entry for entry in one.entries} for one in (made, told))
    for name in ours.keys() ^ theirs.keys():
        yield Sign("statistics", name, f"in the {'document' if name in ours else 'digest'} alone")
    for name, entry in ours.items():
        if name in theirs:
            found = list(_differences(msgspec.to_builtins(theirs[name]), msgspec.to_builtins(entry), ""))
            for path, said, derived in found[:_TOLD]:
                yield Sign(
                    "statistics", name, f"{path.lstrip('.')} is {said} in the digest, {derived} from the samples"
                )
    for field in ("sha256", "suite", "command", "started", "environment"):
        if getattr(told, field) != getattr(made, field):
            yield Sign("statistics", f"digest.{field}", "not that of the document")
    yield CheckedPart("statistics made of the samples", len(ours))


def _differences(told: Any, made: Any, path: str) -> Iterator[tuple[str, str, str]]:
    """Where two values differ by more than arithmetic: the path, what was told, what was made."""
    if isinstance(told, dict) and isinstance(made, dict) and told.keys() == made.keys():
        for key, value in told.items():
            yield from _differences(value, made[key], f"{path}.{key}")
    elif isinstance(told, list | tuple) and isinstance(made, list | tuple) and len(told) == len(made):
        for at, (one, other) in enumerate(zip(told, made, strict=True)):
            yield from _differences(one, other, f"{path}[{at}]")
    elif not _same(told, made):
        yield path, _shown(told), _shown(made)


def _same(told: Any, made: Any) -> bool:
    if isinstance(told, int | float) and isinstance(made, int | float):
        return told == made or math.isclose(told, made, rel_tol=TOLERANCE) or (told != told and made != made)
    return bool(told == made)


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)[:60]
