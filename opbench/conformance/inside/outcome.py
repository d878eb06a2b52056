"""What looking inside a module came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from opbench.conformance.inside.core import InsideCore
from opbench.conformance.inside.found import Found

# right: the core is there; wrong: something else is, which `sentence` names; unknown: neither, and what to try.
Kind = Literal["right", "wrong", "unknown"]


@dataclass(frozen=True)
class FurtherCore:
    """Another core of the same module, and where it is. One `like` the first is computed by the same line of code."""

    core: InsideCore
    found: Found
    place: str
    like: bool


@dataclass(frozen=True)
class Inside:
    """The outcome in a sentence, and what stands around the core. `core` is there to be searched where it is right.

    Where the module has several, `further` are the others.
    """

    kind: Kind
    sentence: str
    around: tuple[str, ...] = ()
    core: InsideCore | None = None
    found: Found | None = None
    advice: str = ""
    further: tuple[FurtherCore, ...] = ()
