"""What `opbench doctor` found: a line for each thing, and whether anything that is needed is missing."""

from __future__ import annotations

from typing import Literal

import msgspec

# needed: opbench doesn't run without it; optional: one part of it doesn't; machine: what timings depend on;
# extensions: what other packages declare.
Part = Literal["needed", "optional", "machine", "extensions"]
# note: worth knowing, and nothing is lost by it.
State = Literal["fine", "note", "missing", "broken"]


class DoctorLine(msgspec.Struct, frozen=True):
    """One thing: what it is, how it is, what for, and what to do about it."""

    part: Part
    name: str
    state: State
    said: str
    wanted_for: str = ""
    cure: str = ""


class Diagnosis(msgspec.Struct, frozen=True):
    """Every line, part by part."""

    opbench: str
    python: str
    platform: str
    lines: tuple[DoctorLine, ...]

    @property
    def lacking(self) -> tuple[DoctorLine, ...]:
        """What is needed and isn't there, or doesn't work."""
        return tuple(line for line in self.lines if line.part == "needed" and line.state in ("missing", "broken"))
