"""What a bundle holds beside its run, and what is said of it once it was verified."""

from __future__ import annotations

from typing import Literal

import msgspec

from opbench.schema import Environment, Record, Run

# checked: everything that can be derived was. partly: something that can be was not, as `unchecked` says. refused: at
# least one sign of a change was found.
Status = Literal["checked", "partly checked", "refused"]


class BundleManifest(msgspec.Struct, frozen=True):
    """What a bundle holds. `members` are its other files with their SHA-256 in hexadecimal.

    `seeds` are what the inputs of each panel are drawn by (`opbench.build.seed_text`), `contributor` and `note` are in
    the contributor's own words.
    """

    members: dict[str, str]
    machine: str
    environment: Environment
    seeds: dict[str, str]
    opbench: str
    contributor: str = ""
    note: str = ""


class Sign(msgspec.Struct, frozen=True):
    """One sign that a document isn't what was measured. `kind` names the rule, `where` the case or field."""

    kind: str
    where: str
    sentence: str


class CheckedPart(msgspec.Struct, frozen=True):
    """What was derived again, and how often."""

    what: str
    count: int


class UncheckedPart(msgspec.Struct, frozen=True):
    """What was not held against anything, why, and how often."""

    what: str
    why: str
    count: int = 1


Said = Sign | CheckedPart | UncheckedPart


class Verification(msgspec.Struct, frozen=True):
    """What `opbench verify-run` found. `sha256` is the run document's, `opbench` and `commit` are who verified it."""

    sha256: str
    machine: str
    suite: str
    started: str
    status: Status
    opbench: str
    commit: str | None
    signs: tuple[Sign, ...]
    checked: tuple[CheckedPart, ...]
    unchecked: tuple[UncheckedPart, ...]
    contributor: str = ""
    note: str = ""


class Submission(msgspec.Struct, frozen=True):
    """A bundle that was opened: the run document as bytes and as a noun, and what lies beside it; None where it lacks.

    `digest` is the bytes of the digest: its figures are only as good as what the samples give.
    """

    document: bytes
    run: Run
    digest: bytes | None = None
    log: str | None = None
    manifest: BundleManifest | None = None


def visited_first(record: Record) -> bool:
    """Whether it has samples of the first visit, which counts and judges every element."""
    return any(one.samples_seconds[:1] not in ((), ((),)) for one in record.latencies)
