"""Calls that try many pairs of sizes at once: a value of every size, beside those of all others.

A bug that needs two sizes, such as a dilation of 4 where there are groups, is one among thousands of pairs, too many to
try one by one. But a call has a value of every size, and so a pair of every two: a few hundred calls have them all. Of
a wrong call the sizes that don't matter are put back (see `walking`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from opbench.conformance.sizes import SHORT, SizeStep, completed
from opbench.relations import Sizes

# What networks ask for beside the least: of numbers these, of switches and factors all.
COMMON = frozenset((1, 2, 3, 5))
# So much work costs a call no more than its overhead: sizes are added to it up to here.
WORK = 1 << 15
# A pair without a common value, or with one below the ordinary, waits as one of so many times its work.
LATER = 8
# Options are few, and a window wants an image of its size: a pair of theirs comes as one of so much less work.
SOONER = 64

Value = tuple[str, Any]
Pair = tuple[Value, Value]


@dataclass
class Mixture:
    """The pairs of a core's sizes that are still to be tried, the cheapest first, and the calls that try them.

    `accepts(asked)` says whether the core takes a value alone; it is asked of those in a call that the core refused.
    """

    sizes: Sizes
    fixed: Mapping[str, Any]
    accepts: Callable[[Mapping[str, Any]], bool]
    left: dict[Pair, int] = field(init=False)
    least: dict[Pair, frozenset[Value]] = field(default_factory=dict)
    of: int = field(init=False)
    singly: set[Pair] = field(default_factory=set)
    refused_pairs: set[Pair] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rungs = {name: list(rungs) for name, rungs in self.sizes.rungs.items() if name not in self.fixed}
        self.place = {name: place for place, name in enumerate(self.rungs)}
        self.ordinary = completed(self.sizes, self.fixed, {}) or {}
        work = {}
        for first, second in combinations(self.rungs, 2):
            for one in self.rungs[first]:
                for other in self.rungs[second]:
                    found = self._exactly({first: one, second: other})
                    if found is not None:
                        pair = (first, one), (second, other)
                        self.least[pair] = self._less(found)
                        soon = any(map(self._is_common, pair)) and not any(map(self._is_less, pair))
                        work[pair] = self.sizes.work(found) * (LATER if not soon else 1)
                        if soon and max(self.rungs[first][-1], self.rungs[second][-1]) < SHORT:
                            work[pair] //= SOONER
        self.left = dict(sorted(work.items(), key=lambda item: item[1]))
        self.of = len(self.left)

    @property
    def tried(self) -> int:
        """How many pairs were in a call that the core answered, or are refused."""
        return self.of - len(self.left)

    @property
    def work(self) -> float:
        """How long the next call may wait, in the measure of `Sizes.work`; endlessly where there is none."""
        return next(iter(self.left.values()), float("inf"))

    def call(self) -> SizeStep:
        """The next call, while pairs are left; `answered` or `refused` is told of it before the next."""
        first = next(iter(self.left))
        asked = dict(first) if first in self.singly else self._mixed(first)
        asked = {name: asked[name] for name in self.rungs if name in asked}
        return SizeStep(asked, self._exactly(asked) or {})

    def answered(self, step: SizeStep) -> None:
        """The pairs of a call that was right are done, but for those beside a value that may hide what they do."""
        less = self._less(step.sizes)
        for pair in combinations(((name, step.sizes[name]) for name in self.rungs), 2):
            if pair in self.left and less <= self.least[pair]:
                del self.left[pair]

    def refused(self, step: SizeStep) -> None:
        """What the core refuses alone is left out; a pair is tried with no other size, and done if refused then."""
        first = next(iter(self.left))
        bad = [value for value in step.asked.items() if not self.accepts(dict([value]))]
        for name, value in bad:
            self.rungs[name].remove(value)
        if bad:
            self.left = {pair: work for pair, work in self.left.items() if not any(one in bad for one in pair)}
        elif len(step.asked) == len(first):
            del self.left[first]
            self.refused_pairs.add(first)
        else:
            self.singly.add(first)

    def _mixed(self, first: Pair) -> dict[str, Any]:
        """The pair, and of every other size the value that adds most pairs for little work."""
        asked = dict(first)
        less = self.least[first]
        limit = max(WORK, 2 * self.sizes.work(self._exactly(asked) or {}))
        for name, rungs in self.rungs.items():
            if name in asked:
                continue
            best, most = None, 0
            for rung in rungs:
                pairs = [self._pair((name, rung), value) for value in asked.items()]
                gain = sum(pair in self.left and less <= self.least[pair] for pair in pairs)
                if gain <= most or not self.refused_pairs.isdisjoint(pairs):
                    continue
                found = self._exactly({**asked, name: rung})
                if found is not None and self._less(found) <= less and self.sizes.work(found) <= limit:
                    best, most = rung, gain
            if most:
                asked[name] = best
        return asked

    def _is_common(self, value: Value) -> bool:
        name, size = value
        return isinstance(size, (float, bool)) or size in COMMON or size == self.ordinary.get(name)

    def _less(self, sizes: Mapping[str, Any]) -> frozenset[Value]:
        return frozenset((name, sizes[name]) for name in self.rungs if self._is_less((name, sizes[name])))

    def _is_less(self, value: Value) -> bool:
        """Whether it is less than ordinary: a window or an image of one pixel hides what dilation or a stride does."""
        name, size = value
        return type(size) is int and size < self.ordinary.get(name, size)

    def _pair(self, one: Value, other: Value) -> Pair:
        """The two in the order of the sizes."""
        return (one, other) if self.place[one[0]] < self.place[other[0]] else (other, one)

    def _exactly(self, asked: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """All sizes of the call of these; None where there is none in which they have these values."""
        found = completed(self.sizes, self.fixed, asked)
        return found if found is not None and all(found[name] == value for name, value in asked.items()) else None
