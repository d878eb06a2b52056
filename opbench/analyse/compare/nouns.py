"""The nouns of a comparison: what differs in one case, and what the whole answer is."""

from __future__ import annotations

from typing import Literal

import msgspec

from opbench.quantities import exact
from opbench.schema import Case
from opbench.statistics.change import Allowance, Decision

# What `allow` names: the outcome, the deterministic quantities, and the operations that torch dispatched.
OUTCOME, OPERATORS = "outcome", "operators"
QUANTITIES: tuple[str, ...] = (OUTCOME, *(name for _, name in exact("compare")), OPERATORS)
Change = Literal["regressed", "improved", "changed"]


class ExactChange(msgspec.Struct, frozen=True):
    """One deterministic quantity that differs; `allowed` says that the user expected it."""

    name: str
    base: str
    head: str
    change: Change
    allowed: bool = False


class Time(msgspec.Struct, frozen=True):
    """One timing method of one case. `ratio` is head / base (of the ratios to the baseline, unless paired); `allowed`
    says that a waiver covers it.

    `p` is adjusted over all rows. `absolute` is the quotient of the median times, beside the point and not judged.
    `processes` of base and head.
    """

    method: str
    ratio: float
    low: float
    high: float
    p: float
    decision: Decision
    absolute: float
    processes: tuple[int, int]
    allowed: bool = False


class Margins(msgspec.Struct, frozen=True):
    """The largest |error| / bound of a case in either run; None where it was not verified."""

    base: float | None = None
    head: float | None = None


class ComparedCase(msgspec.Struct, frozen=True):
    """One case that both runs hold; `left_out` says what of it was not compared, and why.

    `worst_ratio` is not judged: a margin that shrinks within the bound is no change.
    """

    case: Case
    quantities: tuple[ExactChange, ...] = ()
    times: tuple[Time, ...] = ()
    left_out: tuple[str, ...] = ()
    worst_ratio: Margins = Margins()

    @property
    def bad(self) -> bool:
        """Whether this row alone fails the gate."""
        exact = any(found.change != "improved" and not found.allowed for found in self.quantities)
        return exact or any(time.decision == "regressed" and not time.allowed for time in self.times)


class ComparedRun(msgspec.Struct, frozen=True):
    """Which run stood on one side."""

    commit: str | None
    dirty: bool | None
    started: str
    cpu: str
    threads: int
    suite: str


class Comparison(msgspec.Struct, frozen=True):
    """The whole answer. `notes` say what was narrowed for all rows; `only_in` lists cases that one run lacks."""

    base: ComparedRun
    head: ComparedRun
    paired: bool
    minimum_effect: float
    allowance: Allowance | None
    notes: tuple[str, ...]
    rows: tuple[ComparedCase, ...]
    only_in_base: tuple[str, ...]
    only_in_head: tuple[str, ...]
    selfcheck: str = ""

    @property
    def regressed(self) -> bool:
        """Whether the gate fails."""
        return any(row.bad for row in self.rows)
