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


class Confirmation(msgspec.Struct, frozen=True):
    """What fresh processes said of a row that was `called` regressed or improved.

    `ratios` are head / base, one a pair of processes in which it could be told; `agreed` of them lie in the direction
    that was called, beyond the least difference that counts. `asked` pairs of processes measured it.
    """

    called: Decision
    asked: int
    agreed: int
    confirmed: bool
    ratios: tuple[float, ...] = ()
    why_not: str = ""

    @property
    def sentence(self) -> str:
        """As a reader is told it."""
        if self.why_not:
            return f"{self.called}, not confirmed: {self.why_not}"
        return (
            f"{'confirmed' if self.confirmed else f'{self.called}, not confirmed: so'} "
            f"in {self.agreed} of {self.asked} processes"
        )


class Time(msgspec.Struct, frozen=True):
    """One timing method of one case. `ratio` is head / base (of the ratios to the baseline, unless paired); `allowed`
    says that a waiver covers it.

    `p` is adjusted over all rows. `absolute` is the quotient of the median times, beside the point and not judged.
    `processes` of base and head. `least` is the share that a change had to exceed: the minimum effect, or how far
    processes of identical code differ here. A row that was called and not confirmed is `undecided`.
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
    least: float = 0.0
    confirmation: Confirmation | None = None

    @property
    def called(self) -> bool:
        """Whether it says that the time changed."""
        return self.decision in ("regressed", "improved")


class Margins(msgspec.Struct, frozen=True):
    """The largest |error| / bound of a case in either run; None where it was not verified."""

    base: float | None = None
    head: float | None = None


class ComparedCase(msgspec.Struct, frozen=True):
    """One case that both runs hold; `left_out` says what of it was not compared, and why.

    `disturbed`: what was seen of the machine where that is why it has no time, and what to do. `worst_ratio` is not
    judged: a margin that shrinks within the bound is no change.
    """

    case: Case
    quantities: tuple[ExactChange, ...] = ()
    times: tuple[Time, ...] = ()
    left_out: tuple[str, ...] = ()
    worst_ratio: Margins = Margins()
    disturbed: str = ""

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


class BisectedCommit(msgspec.Struct, frozen=True):
    """One commit that the search came by: bad, good, or skipped, and why it was skipped."""

    commit: str
    subject: str
    verdict: Literal["good", "bad", "skipped"]
    why: str = ""


class Bisection(msgspec.Struct, frozen=True):
    """Which commit brought what `cases` lost. `first_bad` holds several where those between could not be judged."""

    good: str
    bad: str
    cases: tuple[str, ...]
    first_bad: tuple[BisectedCommit, ...]
    tried: tuple[BisectedCommit, ...]


class Comparison(msgspec.Struct, frozen=True):
    """The whole answer. `notes` say what was narrowed for all rows; `only_in` lists cases that one run lacks.

    `confirm` is the command that would measure the changed rows again in fresh processes, where that was not done.
    """

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
    confirm: str = ""
    bisection: Bisection | None = None

    @property
    def regressed(self) -> bool:
        """Whether the gate fails."""
        return any(row.bad for row in self.rows)

    @property
    def unanswered(self) -> bool:
        """Whether two revisions were to be timed, and the machine was too busy for all of it."""
        return self.paired and any(row.disturbed for row in self.rows) and not any(row.times for row in self.rows)
