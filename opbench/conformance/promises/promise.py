"""A promise as data, and how it comes out broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from opbench.conformance.promises.findings import CodeLine, PlannedPromise, Shape
from opbench.errors import said
from opbench.relations import Tier

if TYPE_CHECKING:
    from opbench.conformance.promises.subject import Subject


class Broken(NamedTuple):
    """What was seen, in a sentence whose subject is left out ("mixes ..."); advice "" is the promise's own."""

    said: str
    shape: Shape | None = None
    where: CodeLine | None = None
    advice: str = ""


# Of what a target's error says.
LONGEST_SAID = 300


@dataclass(frozen=True)
class Promise:
    """One thing that a module promises. `find` tries it: what was seen, or None where it is kept.

    `statement` is what is promised; `doing` the call that `find` makes, for "in {doing} it raises ..."; `advice` what
    to do. One that `compares` outputs means nothing for a module that doesn't repeat itself.
    """

    name: str
    statement: str
    doing: str
    advice: str
    find: Callable[[Subject], Broken | None]
    compares: bool = True
    needs_gradients: bool = False

    def planned(self, tier: Tier) -> PlannedPromise:
        """What is said of it before it is tried."""
        return PlannedPromise(self.name, tier, self.statement)


class OutOfTime(Exception):
    """The time for all promises is over; the call that was to come was not made."""


class TargetRaised(Exception):
    """What the target raised, where the checker asked it something; any other error is a fault of the checker."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(said(error, LONGEST_SAID))
        self.error = error
