"""What an export of verdicts starts from, whatever the document is: cases, and what was found wrong in each."""

from __future__ import annotations

from typing import Literal

import msgspec

from opbench.exit_codes import Exit

# failed: there is an answer, and it is bad. error: it ended without one. skipped: nobody asked, or nothing could tell.
State = Literal["passed", "failed", "error", "skipped"]
Level = Literal["error", "warning"]


class Rule(msgspec.Struct, frozen=True):
    """What was broken: `id` is stable, `statement` says what holds where nothing is wrong, `advice` what to do."""

    id: str
    statement: str
    advice: str = ""


class FilePlace(msgspec.Struct, frozen=True):
    """A file of the repository, or "" where none is known, and a line of it, from 1."""

    file: str = ""
    line: int = 1


class ExportedFinding(msgspec.Struct, frozen=True):
    """One thing that was found wrong. A `warning` alone makes nobody's build red."""

    rule: Rule
    level: Level
    message: str
    place: FilePlace


class JudgedCase(msgspec.Struct, frozen=True):
    """One thing that was judged, in the group that it stands in; `reason` says why one was skipped.

    `seconds`: of a case of a run the median time of a call, of a relation how long it was tried.
    """

    name: str
    group: str
    state: State
    findings: tuple[ExportedFinding, ...] = ()
    reason: str = ""
    seconds: float = 0.0


class Judgement(msgspec.Struct, frozen=True):
    """All that one document judges. `answer` is a few words for a badge that is labelled `label`."""

    title: str
    label: str
    answer: str
    exit: Exit
    cases: tuple[JudgedCase, ...]
    warned: bool = False
    started: str = ""
    machine: str = ""

    @property
    def findings(self) -> tuple[tuple[JudgedCase, ExportedFinding], ...]:
        """Every finding with its case, errors first."""
        found = [(case, finding) for case in self.cases for finding in case.findings]
        return tuple(sorted(found, key=lambda pair: pair[1].level))
