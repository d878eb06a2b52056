"""Workflow commands of GitHub Actions: a line for each finding, which a step prints and GitHub shows beside the change.

A step shows ten errors and ten warnings; of more, a notice says how many there are.

Source: https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

from collections.abc import Iterator

from opbench.report.exports.verdicts.nouns import ExportedFinding, JudgedCase, Judgement

SHOWN = 10


def github_annotations(found: Judgement) -> bytes:
    """The lines; one that says what was asked is always among them, so that a step without findings says so, too."""
    return "".join(f"{line}\n" for line in _lines(found)).encode("utf-8", "backslashreplace")


def _lines(found: Judgement) -> Iterator[str]:
    for level in ("error", "warning"):
        findings = [pair for pair in found.findings if pair[1].level == level]
        yield from (_line(case, finding) for case, finding in findings[:SHOWN])
        if len(findings) > SHOWN:
            yield f"::notice title=opbench::{len(findings) - SHOWN} more findings of the level {level} are not shown"
    yield f"::notice title=opbench::{_data(f'{found.title}: {found.answer}')}"


def _line(case: JudgedCase, finding: ExportedFinding) -> str:
    where = f"file={_property(finding.place.file)},line={finding.place.line}," if finding.place.file else ""
    return f"::{finding.level} {where}title={_property(finding.rule.id)}::{_data(f'{finding.message} ({case.name})')}"


def _data(text: str) -> str:
    """The text of a command, so that no character of it ends the command or begins another."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
