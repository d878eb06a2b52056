"""What `opbench doctor` found: a line for each thing, what to do about it at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from opbench.doctor.nouns import Diagnosis, DoctorLine, Part, State
from opbench.report.escape import visible
from opbench.report.json_answer import answer

# Format history of `opbench doctor --json`:
#   1  first version
DOCTOR_VERSION = 1

_TITLES: Mapping[Part, str] = {
    "needed": "Needed",
    "optional": "For one part of opbench",
    "machine": "This machine, now",
    "extensions": "Declared by other packages",
}
_MARKS: Mapping[State, str] = {"fine": "ok", "note": "note", "missing": "missing", "broken": "BROKEN"}


def lines(found: Diagnosis) -> Iterator[str]:
    """For a terminal or a bug report."""
    yield f"opbench {found.opbench}, Python {found.python}, {found.platform}"
    for part, title in _TITLES.items():
        of_part = [line for line in found.lines if line.part == part]
        marks = max((len(_MARKS[line.state]) for line in of_part), default=0)
        names = max((len(line.name) for line in of_part), default=0)
        yield ""
        yield title
        for line in of_part:
            yield f"  {_MARKS[line.state]:{marks}}  {visible(line.name):{names}}  {_sentence(line)}"
    yield ""
    yield conclusion(found)


def _sentence(line: DoctorLine) -> str:
    """`not installed; for charts: pip install 'opbench[report]'`."""
    wanted_for = line.wanted_for if line.state in ("missing", "broken") and line.part != "extensions" else ""
    text = visible(line.said) + (f"; for {visible(wanted_for)}" if wanted_for else "")
    return f"{text} -> {visible(line.cure)}" if line.cure else text


def conclusion(found: Diagnosis) -> str:
    """The first thing to do, in one sentence."""
    if found.lacking:
        named = ", ".join(line.name for line in found.lacking)
        return f"opbench can't run as it should: {named}. " + "; ".join(
            line.cure for line in found.lacking if line.cure
        )
    odd = [line.name for line in found.lines if line.part == "machine" and line.state != "fine" and line.cure]
    advice = f"; before you trust a time, see to: {', '.join(odd)}" if odd else ""
    return f"nothing that is needed is missing{advice}"


def as_json(found: Diagnosis) -> bytes:
    """The same, for a program; `needed_is_there` is what the exit code says."""
    content = {"needed_is_there": not found.lacking, "conclusion": conclusion(found), **msgspec.to_builtins(found)}
    return answer("doctor", DOCTOR_VERSION, content)
