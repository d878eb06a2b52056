"""How sure a change in time is: rows of processes to one Student-t statement each, corrected over all rows.

The unit is the process: where it laid its buffers, which core it sat on. What spread the processes of a row show is
known from two to five of them, too few to trust alone: a row that got three close ones by luck would be called
changed. The variances of all rows are therefore shrunk towards their common value by as much as they agree with one
another (the moderated t statistic of Smyth 2004, doi:10.2202/1544-6115.1027). With a single process per run no spread
between processes can be seen at all; then an `allowance` measured by `opbench selfcheck` (or assumed, and said so)
stands for it.

A row is regressed or improved only if its 95 % interval lies beyond the minimum effect and its p-value, for the null
hypothesis that the change is within the minimum effect, survives Holm's correction over all rows: one false alarm
fails a pull request, so it is the chance of any false alarm that is held at 5 %.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

from opbench.statistics.intervals import student_t
from opbench.statistics.shifts import Shift

LEVEL = 0.05
# Rows of a panel share their baseline and so are no independent witnesses of a common variance.
MOST_BORROWED_FREEDOM = 30.0
# Fewer rows say nothing about what variance rows have in common.
FEWEST_ROWS_TO_BORROW = 4

Decision = Literal["regressed", "improved", "same", "undecided"]
DECISIONS: tuple[Decision, ...] = ("regressed", "improved", "same", "undecided")


class Allowance(msgspec.Struct, frozen=True):
    """Standard deviation of a log-ratio from process to process, how well it is known, and from where."""

    deviation: float
    freedom: float
    source: str


class Evidence(msgspec.Struct, frozen=True):
    """What a row's change is judged by: per side, the shift found in each process.

    Paired sides (both revisions in turns on one machine) hold head / base in `head` and nothing in `base`; otherwise
    each holds contender / baseline of its own run.
    """

    base: tuple[Shift, ...]
    head: tuple[Shift, ...]

    @property
    def paired(self) -> bool:
        """Whether the two sides were measured in the same rounds."""
        return not self.base

    @property
    def value(self) -> float:
        """The change as a log-ratio."""
        return _mean(self.head) - (_mean(self.base) if self.base else 0.0)

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the spread between processes; 0 where no side has two."""
        return max(0, len(self.head) - 1) + max(0, len(self.base) - 1)

    @property
    def variance(self) -> float:
        """The spread between processes, pooled over the sides."""
        squares = sum((s.value - _mean(side)) ** 2 for side in (self.base, self.head) for s in side)
        return squares / self.freedom if self.freedom else math.nan

    @property
    def weight(self) -> float:
        """What a variance of one process comes to in the row's mean difference."""
        return 1 / len(self.head) + (1 / len(self.base) if self.base else 0.0)


def shifts(evidence: Sequence[Evidence], allowance: Allowance) -> list[Shift]:
    """One statement per row, in order."""
    spread = [row for row in evidence if row.freedom and row.variance > 0]
    common, borrowed = moderation([row.variance for row in spread], [row.freedom for row in spread])
    return [_over_processes(row, common, borrowed) if row.freedom else _one_process(row, allowance) for row in evidence]


def _over_processes(row: Evidence, common: float, borrowed: float) -> Shift:
    freedom = row.freedom + borrowed
    variance = (row.freedom * row.variance + borrowed * common) / freedom
    return Shift(row.value, math.sqrt(variance * row.weight), freedom)


def _one_process(row: Evidence, allowance: Allowance) -> Shift:
    """Welch and Satterthwaite's degrees of freedom: the errors within the processes and the allowance for them."""
    # Paired sides are two processes as well, one of either revision.
    parts = [(s.error**2, s.freedom) for s in (*row.base, *row.head)] + [
        (2 * allowance.deviation**2, allowance.freedom)
    ]
    variance = sum(part for part, _ in parts)
    if not math.isfinite(variance) or variance == 0:
        return Shift(row.value, math.sqrt(variance), 1.0)
    freedom = variance**2 / sum(part**2 / known for part, known in parts)
    return Shift(row.value, math.sqrt(variance), freedom)


def moderation(variances: Sequence[float], freedoms: Sequence[int]) -> tuple[float, float]:
    """(common variance, degrees of freedom that it is worth): the moments of a scaled F distribution of log-variances.

    (0, 0), borrowing nothing, for fewer than `FEWEST_ROWS_TO_BORROW` rows.
    """
    if len(variances) < FEWEST_ROWS_TO_BORROW:
        return 0.0, 0.0
    from scipy.special import digamma, polygamma

    centred = [
        math.log(variance) - float(digamma(freedom / 2)) + math.log(freedom / 2)
        for variance, freedom in zip(variances, freedoms, strict=True)
    ]
    centre = statistics.fmean(centred)
    by_chance = statistics.fmean(float(polygamma(1, freedom / 2)) for freedom in freedoms)
    excess = statistics.variance(centred) - by_chance
    borrowed = min(MOST_BORROWED_FREEDOM, 2 * _inverse_trigamma(excess)) if excess > 0 else MOST_BORROWED_FREEDOM
    return math.exp(centre + float(digamma(borrowed / 2)) - math.log(borrowed / 2)), borrowed


def p_value(shift: Shift, minimum: float) -> float:
    """How often |shift| comes out as large or larger where the true change is just the minimum effect (a log-ratio)."""
    if not math.isfinite(shift.error) or math.isnan(shift.value):
        return 1.0
    if shift.error == 0:
        return 0.0 if abs(shift.value) > minimum else 1.0
    from scipy.special import stdtr

    size = abs(shift.value)
    tails = (stdtr(shift.freedom, -(size - sign * minimum) / shift.error) for sign in (1, -1))
    return min(1.0, float(sum(tails)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: at most `LEVEL` keeps the chance of any false alarm at `LEVEL`.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted = [1.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        running = max(running, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = running
    return adjusted


def decide(shift: Shift, adjusted_p: float, minimum: float) -> Decision:
    """`minimum` is a log-ratio. *Same* is a finding too: the whole interval within the minimum effect."""
    low, high = shift.interval()
    if adjusted_p <= LEVEL and low > minimum:
        return "regressed"
    if adjusted_p <= LEVEL and high < -minimum:
        return "improved"
    if -minimum <= low and high <= minimum:
        return "same"
    return "undecided"


def detectable(shift: Shift, minimum: float, power: float = 0.9) -> float:
    """The smallest true slow-down, as a share, for which a row known this well is called regressed 9 in 10 times."""
    margin = student_t(shift.freedom, 1 - LEVEL / 2) + student_t(shift.freedom, power)
    return math.expm1(minimum + margin * shift.error)


def _mean(side: Sequence[Shift]) -> float:
    return statistics.fmean(shift.value for shift in side)


def _inverse_trigamma(value: float) -> float:
    """Newton's method on 1 / trigamma, which is nearly linear; from Smyth 2004, appendix."""
    from scipy.special import polygamma

    if value > 1e7:
        return 1 / math.sqrt(value)
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x
