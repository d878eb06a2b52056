"""One quantity of one case on one machine, over the runs of a store: a series with its change points.

The ratio to the panel's baseline is what is judged: a machine that is slower for a month is slower for the baseline
too. Absolute seconds are given the same way and carry the machine's own changes. Deterministic quantities (parameters,
MACs, bytes) are the same in every run of one code, so each difference of neighbours is a change.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from opbench.analyse.compare.environments import differences
from opbench.analyse.history.digest import Digest, Entry
from opbench.analyse.standings import Timing
from opbench.quantities import published
from opbench.schema import Case
from opbench.statistics.change_points import MINIMUM_EFFECT, changes
from opbench.statistics.ratios import Ratio

# By the key under which a digest has them; what is timed has more than a figure there.
_OF = {key: of for of, key in published("digest")}
TIMED = tuple(key for key, of in _OF.items() if of.timed)
QUANTITIES = tuple(_OF)

Figure = tuple[float | None, float | None, float | None]
_NONE: Figure = (None, None, None)


class RunFigure(msgspec.Struct, frozen=True):
    """One run's figure. Where `value` is None the outcome or `missing` says why; `low` and `high` bound a time.

    Of a ratio they are the 95 % interval, of seconds the quartiles of the samples; of a count there are none. `ratio`
    says of a ratio how its interval was found.
    """

    started: str
    commit: str | None
    dirty: bool | None
    suite: str
    outcome: str
    value: float | None
    low: float | None
    high: float | None
    missing: str = ""
    sha256: str = ""
    ratio: Ratio | None = None


class LevelStep(msgspec.Struct, frozen=True):
    """The level steps at point `at` from `before` to `after`; `surroundings` are versions that changed there too."""

    at: int
    before: float
    after: float
    surroundings: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """After / before; None from or to nothing."""
        return self.after / self.before if self.before > 0 and self.after > 0 else None


class Series(msgspec.Struct, frozen=True):
    """One case id, quantity, timing method and machine. `method` is empty for counts.

    `points` are of the newest definition of the case (its dimensions and, for a ratio, its baseline); `redefined`
    counts older ones under the same name that are not comparable. `spikes` and `undecided` are indices of points: that
    left the level for one or two runs, and that end the series off its level: a spike or the start of a step.
    """

    case: Case
    quantity: str
    method: str
    machine: str
    baseline: str
    points: tuple[RunFigure, ...]
    changes: tuple[LevelStep, ...] = ()
    spikes: tuple[int, ...] = ()
    undecided: tuple[int, ...] = ()
    redefined: int = 0


def series(
    digests: Sequence[Digest],
    *,
    case: str | None = None,
    quantities: Iterable[str] = QUANTITIES,
    minimum_effect: float = MINIMUM_EFFECT,
) -> tuple[Series, ...]:
    """Every series of the digests, oldest run first; with `case`, of that case id alone.

    A quantity that no run recorded of a case makes no series. Ordered by machine, then as the newest run lists cases.
    """
    kept = tuple(quantities)
    found: dict[tuple[str, str, str, str], list[tuple[Digest, Entry]]] = {}
    for one in digests:
        machine = one.machine
        for entry in one.entries:
            if not _asked_for(entry.case, case):
                continue
            name = entry.case.id
            for quantity in kept:
                for method in _methods(entry, quantity):
                    found.setdefault((machine, name, quantity, method), []).append((one, entry))
    _with_failures(found, digests, case)
    newest = {
        entry.case.id: (-age, place)
        for age, one in enumerate(digests)
        for place, entry in enumerate(one.entries)
        if _asked_for(entry.case, case)
    }
    order = sorted(found, key=lambda key: (key[0], newest[key[1]], QUANTITIES.index(key[2]), key[3]))
    return tuple(_series(key[0], key[2], key[3], found[key], minimum_effect) for key in order)


def _asked_for(case: Case, name: str | None) -> bool:
    """Whether it is the case of that id; most are told apart without putting theirs together."""
    return name is None or (case.operator in name and case.workload in name and case.id == name)


def case_ids(digests: Iterable[Digest]) -> tuple[str, ...]:
    """Every case id of the digests, sorted."""
    return tuple(sorted({entry.case.id for one in digests for entry in one.entries}))


def _methods(entry: Entry, quantity: str) -> tuple[str, ...]:
    if quantity in TIMED:
        return tuple(timing.method for timing in entry.timings)
    return ("",) if entry.figure(quantity) is not None else ()


def _with_failures(
    found: dict[tuple[str, str, str, str], list[tuple[Digest, Entry]]],
    digests: Sequence[Digest],
    case: str | None,
) -> None:
    """A run that has the case but not the figure (it failed) is a point of the series all the same, with its reason."""
    holders: dict[tuple[str, str], list[tuple[Digest, Entry]]] = {}
    for one in digests:
        machine = one.machine
        for entry in one.entries:
            if _asked_for(entry.case, case):
                holders.setdefault((machine, entry.case.id), []).append((one, entry))
    for key in found:
        found[key] = holders[key[0], key[1]]


def _series(
    machine: str, quantity: str, method: str, held: Sequence[tuple[Digest, Entry]], minimum_effect: float
) -> Series:
    newest = _definition(held[-1][1], quantity)
    comparable = [(one, entry) for one, entry in held if _definition(entry, quantity) == newest]
    points = tuple(_point(one, entry, quantity, method) for one, entry in comparable)
    at = [index for index, point in enumerate(points) if point.value is not None]
    values = [value for point in points if (value := point.value) is not None]
    if quantity in TIMED:
        judged = changes(values, minimum_effect=minimum_effect)
        steps: Iterator[tuple[int, float, float]] = ((step.at, step.before, step.after) for step in judged.steps)
        spikes, undecided = judged.spikes, judged.undecided
    else:
        steps = (
            (index, before, after)
            for index, (before, after) in enumerate(itertools.pairwise(values), start=1)
            if before != after
        )
        spikes = undecided = ()
    return Series(
        case=comparable[-1][1].case,
        quantity=quantity,
        method=method,
        machine=machine,
        baseline=comparable[-1][1].baseline,
        points=points,
        changes=tuple(
            LevelStep(at[index], before, after, _surroundings(comparable[at[index - 1]][0], comparable[at[index]][0]))
            for index, before, after in steps
        ),
        spikes=tuple(at[index] for index in spikes),
        undecided=tuple(at[index] for index in undecided),
        redefined=len(held) - len(comparable),
    )


def _definition(entry: Entry, quantity: str) -> tuple[Case, str]:
    return entry.case, entry.baseline if quantity == "ratio" else ""


def _surroundings(before: Digest, after: Digest) -> tuple[str, ...]:
    found = differences(before.environment, after.environment)
    return tuple(what for one in found if one.kind == "versions" for what in one.what)


def _point(one: Digest, entry: Entry, quantity: str, method: str) -> RunFigure:
    timing = next((timing for timing in entry.timings if timing.method == method), None)
    value, low, high = _figure(entry, quantity, timing)
    outcome = "not recorded" if entry.outcome == "ok" else entry.outcome
    return RunFigure(
        started=one.started,
        commit=one.environment.commit,
        dirty=one.environment.dirty,
        suite=one.suite,
        outcome=entry.outcome,
        value=value,
        low=low,
        high=high,
        missing="" if value is not None else (timing.missing if timing else "") or outcome,
        sha256=one.sha256,
        ratio=timing.ratio if timing and quantity == "ratio" and value is not None else None,
    )


def _figure(entry: Entry, quantity: str, timing: Timing | None) -> Figure:
    of = _OF[quantity]
    if not of.timed:
        return entry.figure(quantity), None, None
    found = of.of_timing(timing) if timing else None
    return found if found and 0 < found[0] < math.inf else _NONE
