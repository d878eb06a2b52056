"""The walk through a core's sizes: each alone, then in pairs, until a call is wrong; that one is told by its limit.

A wrong call is made as small as it stays wrong, and each of the sizes that matter is bisected: the smallest wrong
value, the largest right one below it, and whether those above are wrong too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis.errors import UnsatisfiedAssumption

from opbench.conformance.agenda import Agenda
from opbench.conformance.outstanding import Outstanding
from opbench.conformance.search import Attempt, Searched, SearchFinding
from opbench.conformance.sizes import SizeStep, completed, is_large
from opbench.relations import Core, Example, Relation, Sizes, Space

Fault = tuple[str, Example]
# Sizes alone may take this many times the seconds that are given, so that a busy machine finishes them as well.
PATIENCE = 1.5


@dataclass(frozen=True)
class WalkExtent:
    """How much of it is walked: `thin` leaves out rungs, `paired` tries every two with what time is left.

    `shape` is a call of the caller's own, tried before all others and in time of its own.
    """

    thin: bool = True
    paired: bool = False
    shape: Mapping[str, Any] = field(default_factory=dict)


def walk(
    relation: Relation,
    core: Core,
    space: Space,
    *,
    extent: WalkExtent,
    seed: int,
    seconds: float = float("inf"),
    shrink_seconds: float = float("inf"),
    words: Collection[str] = (),
    before_call: Callable[[Example], None] = lambda call: None,
    after_call: Callable[[], None] = lambda: None,
) -> Searched:
    """Tries the relation at its sizes, for about `seconds`; what it did not reach is said in `reached`.

    Everything else is as in `opbench.conformance.search.search`.
    """
    assert relation.sizes is not None
    outstanding = Outstanding(before_call, after_call)
    attempt = Attempt(relation, core, space, words, outstanding, time.monotonic() + seconds, shrink_seconds)
    tried = _Tried(attempt, relation.sizes, space, seed)
    told = []
    own = completed(relation.sizes, space.fixed, extent.shape) if extent.shape else None
    if own is not None:
        if tried.fault(extent.shape) is not None:
            return _convicted(tried, SizeStep(extent.shape, own))
        called = attempt.called
        told.append("as given" + (", its first and last image" if called is not None and is_large(called) else ""))
    agenda = Agenda(relation.sizes, space.fixed, tried.accepts, extent.thin, extent.paired)
    begin = time.monotonic()
    while not attempt.tried or time.monotonic() < begin + seconds * PATIENCE:
        step = agenda.next(late=time.monotonic() > begin + seconds)
        if step is None:
            break
        if tried.fault(step.asked) is not None:
            return _convicted(tried, step)
        agenda.tell(step, tried.exists(step.asked))
    return attempt.outcome(reached=f"tried {', '.join((*told, agenda.reached))}")


@dataclass
class _Tried:
    """What was wrong with the calls tried so far, by their sizes: None for what was right or refused."""

    attempt: Attempt
    sizes: Sizes
    space: Space
    seed: int
    known: dict[tuple[tuple[str, Any], ...], Fault | None] = field(default_factory=dict)
    refused: set[tuple[tuple[str, Any], ...]] = field(default_factory=set)

    def all_of(self, asked: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """All sizes of a call."""
        return completed(self.sizes, self.space.fixed, asked)

    def exists(self, asked: Mapping[str, Any]) -> bool:
        """Whether there is a call of exactly these sizes, and the core is not known to refuse it."""
        found = self.all_of(asked)
        if found is None or any(found[name] != value for name, value in asked.items()):
            return False
        return tuple(sorted(found.items())) not in self.refused

    def fault(self, asked: Mapping[str, Any]) -> Fault | None:
        """What is wrong at these sizes; None where nothing is, the core refuses, or there is no such call."""
        found = self.all_of(asked)
        if found is None:
            return None
        key = tuple(sorted(found.items()))
        if key not in self.known:
            self.known[key] = self._try(found)
        return self.known[key]

    def accepts(self, asked: Mapping[str, Any]) -> bool:
        """Whether the core takes the call of these sizes, right or wrong."""
        self.fault(asked)
        return self.exists(asked)

    def _try(self, found: Mapping[str, Any]) -> Fault | None:
        try:
            fault = self.attempt.fault_in(self.sizes.call(found, self.space, self.seed))
        except UnsatisfiedAssumption:
            self.refused.add(tuple(sorted(found.items())))
            return None
        if fault is None:
            self.attempt.answered += 1
        return fault


# --- What is wrong, in a sentence -------------------------------------------------------------------------------


def _convicted(tried: _Tried, step: SizeStep) -> Searched:
    """The finding of a step that is wrong."""
    end = time.monotonic() + tried.attempt.shrink_seconds
    step = _needed(tried, step, end)
    asked = _lowered(tried, step, end)
    limits = []
    for name in step.asked:
        if type(asked[name]) is int and time.monotonic() < end:
            right = _bisected(tried, asked, name, end)
            if right is not None:
                limits.append(_limit(tried, asked, name, right, end))
    fault, found = tried.fault(asked), tried.all_of(asked)
    assert fault is not None
    assert found is not None
    message, example = fault
    call = ", ".join(f"{name}={value}" for name, value in found.items())
    sentence = f"{' and '.join(limits)}; " if limits else ""
    message = f"{sentence}smallest failing call {call}: {message}"
    relation = tried.attempt.relation
    tried.attempt.smallest = SearchFinding(relation.name, relation.statement, message, example)
    return tried.attempt.outcome()


def _needed(tried: _Tried, step: SizeStep, end: float) -> SizeStep:
    """The step without the sizes that were asked for and don't matter: the call stays wrong without them."""
    for name in step.asked:
        fewer = {other: value for other, value in step.asked.items() if other != name}
        sizes = tried.all_of(fewer)
        if time.monotonic() < end and sizes is not None and tried.fault(fewer) is not None:
            step = SizeStep(fewer, sizes)
    return step


def _lowered(tried: _Tried, step: SizeStep, end: float) -> dict[str, Any]:
    """The step with every size that was not asked for as small as it may be while the call stays wrong."""
    asked = {name: step.sizes[name] for name in step.asked}
    for name, rungs in tried.sizes.rungs.items():
        if name in asked or name in tried.space.fixed:
            continue
        ordinary = step.sizes[name]
        smaller = rungs[: rungs.index(ordinary)] if ordinary in rungs else [rung for rung in rungs if rung < ordinary]
        for value in smaller:
            lower = {**asked, name: value}
            if time.monotonic() < end and tried.exists(lower) and tried.fault(lower) is not None:
                asked = lower
                break
    return asked


def _bisected(tried: _Tried, asked: dict[str, Any], name: str, end: float) -> Any:
    """Lowers a size in `asked` to a wrong value, and gives the right one before it; None where the least is wrong.

    Neighbours, unless time ends.
    """
    values = list(_values(tried, asked, name, asked[name]))
    if len(values) == 1 or tried.fault({**asked, name: values[0]}) is not None:
        asked[name] = values[0]
        return None
    right, wrong = 0, len(values) - 1
    while wrong - right > 1 and time.monotonic() < end:
        middle = (right + wrong) // 2
        if tried.fault({**asked, name: values[middle]}) is None:
            right = middle
        else:
            wrong = middle
    asked[name] = values[wrong]
    return values[right]


def _values(tried: _Tried, asked: Mapping[str, Any], name: str, up_to: int) -> Iterator[int]:
    """The values of a size up to this one at which there is a call, the others being as asked; ascending."""
    for value in range(tried.sizes.rungs[name][0], up_to + 1):
        if tried.exists({**asked, name: value}):
            yield value


def _limit(tried: _Tried, asked: Mapping[str, Any], name: str, right: int, end: float) -> str:
    """`right up to C = 64, wrong from C = 65`, as far as those above bear it out."""
    wrong = asked[name]
    step = wrong - right

    def is_wrong(value: int) -> bool | None:
        """None where nobody knows."""
        one = {**asked, name: value}
        if time.monotonic() > end or not tried.exists(one):
            return None
        fault = tried.fault(one)
        return fault is not None if tried.exists(one) else None

    def text(*values: int) -> str:
        return f"{name} = {', '.join(map(str, values))}"

    if time.monotonic() > end:
        return f"right at {text(right)}, wrong at {text(wrong)}"
    # Those after it, and those round its double: a multiple or a single value is wrong in some of them only.
    above = (wrong + step, wrong + 2 * step, 2 * wrong - step, 2 * wrong + step)
    again = next((value for value in above if is_wrong(value) is False), None)
    if again is None:
        return f"right up to {text(right)}, wrong from {text(wrong)}"
    multiples = (2 * wrong, 3 * wrong)
    if wrong > 2 and all(map(is_wrong, multiples)) and not any(map(is_wrong, above)):
        return f"right between and wrong at multiples of {wrong}, {text(wrong, *multiples)}"
    return f"right at {text(right)}, wrong at {text(wrong)}, right again at {text(again)}"
