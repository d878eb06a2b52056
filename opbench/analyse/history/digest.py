"""What a history needs of one run, a twentieth of its size: every case's figures with their intervals, no raw samples.

A digest lies beside its run document in a results folder's history, so that thousands of runs are read in seconds, and
stays when the raw samples are let go. It names the document it was made from by hash: where that document is still
there, everything in the digest can be computed from it again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import msgspec

from opbench.analyse.standings import Row, Standing, Timing, standings
from opbench.documents.kinds import DIGEST_VERSION
from opbench.schema import Case, Environment, Run


# gc=False, here and in what it holds: no cycle is possible, and looking for one takes longer than reading the file.
class Entry(msgspec.Struct, frozen=True, gc=False):
    """One case's figures. `baseline` is its panel's; None where a figure was not recorded."""

    case: Case
    baseline: str
    outcome: str
    message: str
    params: int | None
    macs: int | None
    peak_bytes: int | None
    saved_bytes: int | None
    worst_ratio: float | None
    timings: tuple[Timing, ...]


class Digest(msgspec.Struct, frozen=True):
    """One run without its raw samples. `sha256` and `document_bytes` are those of the run document."""

    digest_version: int
    sha256: str
    document_bytes: int
    suite: str
    command: str
    started: str
    environment: Environment
    entries: tuple[Entry, ...]

    @property
    def machine(self) -> str:
        """The machine's key: series of different keys are never joined."""
        return machine_key(self.environment)


def digest(run: Run, document: bytes) -> Digest:
    """The digest of `run`, which is what `document` holds."""
    return Digest(
        digest_version=DIGEST_VERSION,
        sha256=hashlib.sha256(document).hexdigest(),
        document_bytes=len(document),
        suite=run.settings.suite,
        command=run.command,
        started=run.started,
        environment=run.environment,
        entries=tuple(entry for standing in standings(run) for entry in _entries(standing)),
    )


def machine_key(environment: Environment) -> str:
    """A folder's name for what times depend on: CPU, cores, threads, GPU. Readable first, then a hash of it all.

    The hash tells apart what the readable part can't hold, and nothing of the text can leave the folder.
    """
    parts = (environment.machine, environment.cpu, environment.cores, environment.threads, environment.gpu or "")
    told = hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "backslashreplace")).hexdigest()[:8]
    name = slug(environment.gpu or environment.cpu)
    return f"{name}-{_small(environment.cores)}c-{_small(environment.threads)}t-{told}"


def slug(text: str, limit: int = 40) -> str:
    """Letters, digits and single hyphens: safe as a file's name on any system.

    >>> slug("Intel(R) Xeon(R) Processor")
    'intel-r-xeon-r-processor'
    """
    kept = re.sub(r"[^a-z0-9]+", "-", text[: 4 * limit].lower())[:limit].strip("-")
    return kept or "unnamed"


def _small(count: int) -> str:
    return str(count) if 0 <= count < 1_000_000 else "x"


def _entries(standing: Standing) -> Iterator[Entry]:
    for row in standing.rows:
        if row.record is not None:
            yield _entry(row, standing.panel.baseline)


def _entry(row: Row, baseline: str) -> Entry:
    record = row.record
    assert record is not None
    counts, memory, verdict = record.counts, record.memory, record.verdict
    return Entry(
        case=row.case,
        baseline=baseline,
        outcome=row.outcome,
        message=record.message,
        params=counts.params if counts else None,
        macs=counts.macs if counts else None,
        peak_bytes=memory.peak_bytes if memory else None,
        saved_bytes=memory.saved_bytes if memory else None,
        worst_ratio=verdict.worst_ratio if verdict else None,
        timings=row.timings,
    )
