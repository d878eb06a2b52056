"""What looking inside a module came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from opbench.conformance.inside.finding import Found

# right: the core is there; wrong: something else is, which `sentence` names; unknown: neither, and what to try.
Kind = Literal["right", "wrong", "unknown"]


@dataclass(frozen=True)
class Inside:
    """The outcome in a sentence, and what stands around the core. `core` is there to be searched where it is right."""

    kind: Kind
    sentence: str
    around: tuple[str, ...] = ()
    core: Callable[..., Tensor] | None = None
    found: Found | None = None
    advice: str = ""
