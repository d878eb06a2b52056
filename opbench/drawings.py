"""How an operator is shown: what is asked for, and the picture that it returns; plain data, drawn by `opbench show`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shot:
    """What is to be shown: which weights on which image, at which output pixels ("row,column")."""

    image: Path | None = None
    weights: Path | None = None
    layer: str = ""
    fresh: bool = False
    at: tuple[str, ...] = ()
    spread: float = 2.0
    seed: int = 0


@dataclass(frozen=True)
class Drawing:
    """A picture of `width` x `height` SVG units, later `parts` over earlier ones, each the text of an SVG element.

    `title` and `description` are for those who don't see it. `opbench.report.show.svg` makes elements whose texts are
    escaped; an operator may write its own.
    """

    title: str
    description: str
    width: float
    height: float
    parts: tuple[str, ...]
