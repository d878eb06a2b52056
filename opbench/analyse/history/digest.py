"""What a history needs of one run, a twentieth of its size: every case's figures with their intervals, no raw samples.

A digest lies beside its run document in a results folder's history, so that thousands of runs are read in seconds, and
stays when the raw samples are let go. It names the document it was made from by hash: where that document is still
there, everything in the digest can be computed from it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from opbench.analyse.standings import Row, Standing, Timing, standings
from opbench.documents.kinds import DIGEST_VERSION
from opbench.quantities import exact
from opbench.schema import Case, Environment, Run
from opbench.slug import slug


# gc=False, here and in what it holds: no cycle is possible, and looking for one takes longer than reading the file.
class _Case(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    case: Case
    baseline: str
    outcome: str
    message: str


if TYPE_CHECKING:
    _Figures = _Case
else:  # a field for each deterministic quantity under its key; None where it was not recorded
    _Figures = msgspec.defstruct(
        "_Figures",
        [(key, int | float | None, None) for _, key in exact("digest")],
        bases=(_Case,), module=__name__, frozen=True, gc=False, kw_only=True,
    )  # fmt: skip


class Entry(_Figures, frozen=True, gc=False, kw_only=True):
    """One case's figures. `baseline` is its panel's; of the quantities, `figure` gives the deterministic ones."""

    worst_ratio: float | None
    timings: tuple[Timing, ...]

    def figure(self, key: str) -> float | None:
        """A deterministic quantity by its key; None where it was not recorded."""
        found: float | None = getattr(self, key)
        return found


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


def digest(run: Run, document: bytes, stand: Sequence[Standing] | None = None) -> Digest:
    """The digest of `run`, which is what `document` holds; `stand` are its standings, where they are known already."""
    return Digest(
        digest_version=DIGEST_VERSION,
        sha256=hashlib.sha256(document).hexdigest(),
        document_bytes=len(document),
        suite=run.settings.suite,
        command=run.command,
        started=run.started,
        environment=run.environment,
        entries=tuple(
            entry for standing in (standings(run) if stand is None else stand) for entry in _entries(standing)
        ),
    )


def machine_key(environment: Environment) -> str:
    """A folder's name for what times depend on: CPU, cores, threads, GPU. Readable first, then a hash of it all.

    A run that had less than the whole machine (affinity, a quota) is of another machine; a governor is not part of the
    name, so that documents that don't record it stay in one series with those that do. The hash tells apart what the
    readable part can't hold, and nothing of the text can leave the folder.
    """
    parts: tuple[object, ...] = (
        environment.machine, environment.cpu, environment.cores, environment.threads, environment.gpu or ""
    )  # fmt: skip
    share = environment.share
    if share is not None and share.limited(environment.cores):
        parts += (share.allowed, share.quota or "")
    told = hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "backslashreplace")).hexdigest()[:8]
    name = slug(environment.gpu or environment.cpu)
    return f"{name}-{_small(environment.cores)}c-{_small(environment.threads)}t-{told}"


def _small(count: int) -> str:
    return str(count) if 0 <= count < 1_000_000 else "x"


def _entries(standing: Standing) -> Iterator[Entry]:
    for row in standing.rows:
        if row.record is not None:
            yield _entry(row, standing.panel.baseline)


def _entry(row: Row, baseline: str) -> Entry:
    record = row.record
    assert record is not None
    return Entry(
        case=row.case,
        baseline=baseline,
        outcome=row.outcome,
        message=record.message,
        worst_ratio=record.verdict.worst_ratio if record.verdict else None,
        timings=row.timings,
        **{key: of.of(record) for of, key in exact("digest")},
    )
