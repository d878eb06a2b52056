"""In which order a walk through a core's sizes tries its calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from opbench.conformance.mixing import Mixture
from opbench.conformance.sizes import SizeStep, alone
from opbench.relations import Sizes


@dataclass
class Agenda:
    """The thinned ladders first, then whichever has less work, the next size alone or the next pairs.

    `accepts` is a `Mixture`'s. `thin` and `paired` are a walk's extent.
    """

    sizes: Sizes
    fixed: Mapping[str, Any]
    accepts: Callable[[Mapping[str, Any]], bool]
    thin: bool
    paired: bool
    tried: int = 0
    _of_pairs: bool = False
    mixture: Mixture | None = field(init=False)

    def __post_init__(self) -> None:
        self.alone = alone(self.sizes, self.fixed, thin=self.thin)
        self.foremost = len(self.alone if self.thin else alone(self.sizes, self.fixed, thin=True))
        self.mixture = Mixture(self.sizes, self.fixed, self.accepts) if self.paired else None

    def next(self, late: bool) -> SizeStep | None:
        """The next call; None where nothing is left, or, if it is `late`, no size alone."""
        step = self.alone[self.tried] if self.tried < len(self.alone) else None
        pairs = self.mixture if not late and self.tried >= self.foremost else None
        self._of_pairs = (
            pairs is not None and bool(pairs.left) and (step is None or pairs.work <= self.sizes.work(step.sizes))
        )
        if pairs is not None and self._of_pairs:
            return pairs.call()
        self.tried += step is not None
        return step

    def tell(self, step: SizeStep, accepted: bool) -> None:
        """Of the call that `next` gave: whether the core took it, and was right."""
        if self.mixture is not None and accepted:
            self.mixture.answered(step)
        elif self.mixture is not None and self._of_pairs:
            self.mixture.refused(step)

    @property
    def reached(self) -> str:
        """How far it got, in words."""
        alone = f"alone: {_of(self.tried, len(self.alone))}"
        return alone if self.mixture is None else f"{alone}, in pairs: {_of(self.mixture.tried, self.mixture.of)}"


def _of(count: int, total: int) -> str:
    return f"all {count:,}" if count == total else f"{count:,} of {total:,}"
