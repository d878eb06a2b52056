"""One case before any clock: built, held against its definition, counted. What the run and pytest-benchmark share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from opbench.build import Built, build
from opbench.measure.macs import count
from opbench.measure.memory import measure_memory
from opbench.schema import Case, Counts, Memory, Verdict
from opbench.verify.gate import Reference, call, check, reference

T = TypeVar("T")


@dataclass
class Stopwatch:
    """Wall time spent inside measured or verified calls, as opposed to around them."""

    seconds: float = 0.0

    def time(self, work: Callable[[], T]) -> T:
        """Runs `work` on the clock."""
        begin = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds += time.perf_counter() - begin


@dataclass(frozen=True)
class WatchedReference(Reference):
    """The definition's answer, and what is looked at before it is held against anything: whether the judge is itself.

    A contender may put another in its place in the very call that is judged, and put it back in that other one.
    """

    own: Reference | None = None
    look: Callable[[], None] = lambda: None

    @classmethod
    def over(cls, own: Reference, look: Callable[[], None]) -> WatchedReference:
        """Over a reference of any class."""
        return cls(own.expected, own.terms, own.dtype, own.basis, own, look)

    @property
    def shapes(self) -> Mapping[str, torch.Size]:
        """Of output and gradients, by name."""
        return super().shapes if self.own is None else self.own.shapes

    def judge(self, got: Mapping[str, object]) -> Verdict:
        """The verdict on a contender's output and gradients by name."""
        self.look()
        return super().judge(got) if self.own is None else self.own.judge(got)


@dataclass(frozen=True)
class CheckedCase:
    """A built case, its definition's answer, and the verdict on its first calls."""

    built: Built
    expected: Reference
    first_call_seconds: float
    verdict: Verdict


def check_case(
    case: Case,
    references: MutableMapping[str, Reference] | None = None,
    stopwatch: Stopwatch | None = None,
    announce: Callable[[bool], None] = lambda definition: None,
    look: Callable[[], None] = lambda: None,
    derive: Callable[[Built], Reference] = reference,
) -> CheckedCase:
    """Builds the case and holds its first calls against the definition. A wrong answer is never timed.

    Implementations of one operator at the same settings and spread share an entry in `references`. `announce(True)`
    comes before the definition is evaluated, `announce(False)` before the contender's own code runs. `look` is called
    between each of its calls and the judgement on it, and may raise. `derive` gives the definition's answer.
    """
    references = {} if references is None else references
    stopwatch = stopwatch or Stopwatch()
    announce(False)
    # A contender that draws random numbers draws the same ones whoever ran before it.
    torch.manual_seed(case.seed)
    built = build(case)
    key = reference_key(case)
    if key not in references:
        announce(True)
        references[key] = stopwatch.time(lambda: derive(built))
        announce(False)
    shared = references[key]
    expected = WatchedReference.over(shared, look)
    begin = time.perf_counter()
    stopwatch.time(lambda: _synchronised(built))
    first_call_seconds = time.perf_counter() - begin
    return CheckedCase(built, expected, first_call_seconds, stopwatch.time(lambda: check(built, expected)))


def reference_key(case: Case) -> str:
    """What the cases of a panel that share the definition's answer have in common."""
    return "/".join((case.operator, *case.variant))


def count_case(built: Built, stopwatch: Stopwatch | None = None) -> tuple[Counts, Memory]:
    """MACs, parameters and memory of a built case."""
    stopwatch = stopwatch or Stopwatch()
    counts = stopwatch.time(lambda: count(built.case, built))
    return counts, stopwatch.time(lambda: measure_memory(built))


def changed_inputs(built: Built) -> str | None:
    """The name of an input that no longer holds the values it was built with, or None."""
    for name, value in zip(built.tensors, built.inputs, strict=False):
        if not torch.equal(value.detach().double(), built.tensors[name]):
            return name
    return None


def _synchronised(built: Built) -> None:
    call(built)
    if built.case.device == "cuda":
        torch.cuda.synchronize()
