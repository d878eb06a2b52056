"""Every statistic that stands beside the samples, made of them again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from opbench import documents
from opbench.analyse.history.digest import Digest, digest
from opbench.analyse.history.sound import differences
from opbench.contributed.nouns import CheckedPart, Said, Sign, Submission, UncheckedPart
from opbench.schema import OpbenchError

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
            found = differences(msgspec.to_builtins(theirs[name]), msgspec.to_builtins(entry))
            for path, told_of, derived in itertools.islice(found, _TOLD):
                sentence = f"{path.lstrip('.')} is {_shown(told_of)} in the digest, {_shown(derived)} from the samples"
                yield Sign("statistics", name, sentence)
    for field in ("sha256", "suite", "command", "started", "environment"):
        if getattr(told, field) != getattr(made, field):
            yield Sign("statistics", f"digest.{field}", "not that of the document")
    yield CheckedPart("statistics made of the samples", len(ours))


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)[:60]
