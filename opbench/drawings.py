"""How an operator is shown: what is asked for, and the picture that it returns; plain data, drawn by `opbench show`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shot:
    """What is to be shown: which weights on which image, at which output pixels ("row,column").

    Weights are those of a file, `fresh` initial ones, or drawn by a `seed`; an operator that has trained ones shows
    them where none of these is asked for.
    """

    image: Path | None = None
    weights: Path | None = None
    layer: str = ""
    fresh: bool = False
    at: tuple[str, ...] = ()
    spread: float = 2.0
    seed: int = 0

    @property
    def trained(self) -> bool:
        """Whether nothing else was asked for than what the operator has."""
        return not (self.weights or self.fresh or self.seed)

    @property
    def subject(self) -> str:
        """The image, in words."""
        return self.image.name if self.image else "a synthetic image"


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
