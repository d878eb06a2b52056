"""The layout floor: how far two fresh processes of identical code differ, by kind of contender.

Where a process lays its code and its heap, and on which cores its threads start, is drawn once, when it starts. Two
processes of the same code differ by that for as long as they live, and no number of rounds shows it. `opbench
selfcheck` times such pairs; a difference that is no larger is no change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec

from opbench.schema import LayoutTrial, Selfcheck
from opbench.statistics.intervals import CONFIDENCE, student_t
from opbench.statistics.shifts import Shift, log_ratios, shift

# By how many operations a call sends through torch's dispatcher: the more of them, the more places are drawn.
FEW, SEVERAL, MANY, UNSEEN = "1 to 3 operations", "4 to 15 operations", "16 operations or more", "compiled as a whole"
_AT_MOST = ((3, FEW), (15, SEVERAL))
KINDS = (FEW, SEVERAL, MANY, UNSEEN)


class LayoutFloor(msgspec.Struct, frozen=True):
    """Of one kind: the root mean square of log(second / first) over `pairs` of processes.

    Without what the rounds scatter within a process: more of them would show less of that, and as much of the rest.
    """

    kind: str
    deviation: float
    pairs: int

    def least(self, processes: int, *, paired: bool) -> float:
        """The log-ratio that the mean of so many processes exceeds once in twenty times though nothing changed.

        Paired, a process of either side makes one ratio. Else each side has a ratio to its own baseline.
        """
        independent = 1 if paired else 2
        quantile = student_t(self.pairs, (1 + CONFIDENCE) / 2)
        return quantile * self.deviation * math.sqrt(independent / processes)


def kind_of(dispatched: Mapping[str, int] | None) -> str:
    """The kind of a contender, by what it sends through torch's dispatcher; None: nothing is seen of it.

    >>> kind_of({"aten.convolution": 1, "aten.add": 1}), kind_of({"aten.add": 20}), kind_of(None)
    ('1 to 3 operations', '16 operations or more', 'compiled as a whole')
    """
    if dispatched is None:
        return UNSEEN
    count = sum(dispatched.values())
    return next((kind for most, kind in _AT_MOST if count <= most), MANY)


def floors(selfcheck: Selfcheck) -> dict[str, LayoutFloor]:
    """Every kind of which the selfcheck has pairs of processes, in the order of `KINDS`."""
    found: dict[str, list[Shift]] = {}
    for trial in selfcheck.layouts:
        moved = moved_by(trial)
        if math.isfinite(moved.error):
            found.setdefault(trial.kind, []).append(moved)
    return {kind: LayoutFloor(kind, _between(found[kind]), len(found[kind])) for kind in KINDS if kind in found}


def floor_of(known: Mapping[str, LayoutFloor], dispatched: Mapping[str, int] | None) -> LayoutFloor | None:
    """The floor of a contender's kind; of one that the selfcheck didn't meet, the largest that it knows."""
    largest = max(known.values(), key=lambda floor: floor.deviation, default=None)
    return known.get(kind_of(dispatched), largest)


def moved_by(trial: LayoutTrial) -> Shift:
    """log(second / first) of two processes of the same code."""
    return shift(log_ratios(trial.first_nanoseconds, trial.second_nanoseconds, trial.left_out))


def _between(moved: Sequence[Shift]) -> float:
    """The root mean square, not around the mean: of identical code that is 0. Less the errors within the processes."""
    return math.sqrt(max(0.0, sum(one.value**2 - one.error**2 for one in moved) / len(moved)))
