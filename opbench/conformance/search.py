"""The search for a counterexample: one relation, one core, Hypothesis in between.

What a core raises is its own doing and becomes part of the finding, unless it refuses the call (see `raised`). Such
examples are put aside and others are drawn in their place. What makes the core fragile only is noted, and the search
goes on for what makes it wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis.errors import Flaky, HypothesisException, Unsatisfiable, UnsatisfiedAssumption

from opbench.conformance.comparing import collecting
from opbench.conformance.outstanding import Outstanding, watching
from opbench.conformance.precision import noting
from opbench.conformance.raised import (
    MEMORY,
    WHAT_A_TARGET_RAISES,
    fragile_because,
    is_missing_cuda,
    line_of,
    place_of,
    refuses,
)
from opbench.errors import said
from opbench.relations import Core, Example, Relation, Space, Violation
from opbench.schema import OpbenchError


@dataclass(frozen=True)
class SearchFinding:
    """A relation does not hold: what is wrong, on the smallest example that shows it; `cause` makes it fragile only."""

    property: str
    statement: str
    message: str
    example: Example
    cause: str = ""


@dataclass(frozen=True)
class Refused:
    """Options at which the core said that it can't, and what it said."""

    options: Mapping[str, Any]
    message: str


@dataclass(frozen=True)
class Searched:
    """What a search came to: `examples` is how many the core answered, `accepted` the different options it did at.

    `worst_ratio` is the largest |error| / bound met on any example; None where nothing was compared within a bound.
    `reached` says how far it got, where that is more than a number of examples. `fragile` is what was noted beside the
    finding, the smallest of each cause, and `cut` the examples that the time did not suffice for.
    """

    finding: SearchFinding | None
    examples: int
    accepted: tuple[Mapping[str, Any], ...]
    refusals: tuple[Refused, ...]
    worst_ratio: float | None = None
    reached: str = ""
    fragile: tuple[SearchFinding, ...] = ()
    cut: int = 0


def search(
    relation: Relation,
    core: Core,
    space: Space,
    *,
    examples: int,
    seed: int,
    seconds: float = float("inf"),
    shrink_seconds: float = float("inf"),
    words: Collection[str] = (),
    before_call: Callable[[Example], None] = lambda call: None,
    after_call: Callable[[], None] = lambda: None,
) -> Searched:
    """Tries `relation` on `core` on up to `examples` examples, the same ones for the same seed.

    Ends early after `seconds`, and the shrinking of a counterexample after `shrink_seconds`, though never before one
    example was tried. `words` are further names by which a ValueError may mean an option. `before_call` hears of every
    call of the core and of every backward pass after one, `after_call` of the end of the last that was outstanding.
    Raises OpbenchError if the core turns out to need CUDA where the space is on the CPU.
    """
    outstanding = Outstanding(before_call, after_call)
    attempt = Attempt(relation, core, space, words, outstanding, time.monotonic() + seconds, shrink_seconds)
    assert relation.draws is not None
    strategy = relation.draws(space)
    if strategy.is_empty:
        return attempt.outcome()
    test = hypothesis.given(strategy)(lambda example: attempt(example))
    test = hypothesis.seed(seed)(test)
    test = hypothesis.settings(
        max_examples=examples,
        derandomize=False,
        database=None,
        deadline=None,
        verbosity=Verbosity.quiet,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )(test)
    try:
        test()
    except (_Convicted, Unsatisfiable):
        pass  # the attempt knows what it saw
    except _OutOfTime:
        attempt.cut = max(0, examples - attempt.answered) if attempt.smallest is None else 0
    except Flaky:
        attempt.unsteady = True
    return attempt.outcome()


class _Convicted(Exception):
    """The relation does not hold on this example."""


class _OutOfTime(BaseException):
    """No Exception, so that Hypothesis lets it through at once and neither shrinks nor repeats it."""


@dataclass
class Attempt:
    """A relation being tried on a core, example by example, and what was seen so far.

    Called, it is the test that Hypothesis repeats; `fault_in` judges one example that somebody else chose.
    """

    relation: Relation
    core: Core
    space: Space
    words: Collection[str]
    outstanding: Outstanding
    deadline: float
    shrink_seconds: float
    tried: int = 0
    answered: int = 0
    unsteady: bool = False
    smallest: SearchFinding | None = None
    accepted: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    refusals: dict[str, Refused] = field(default_factory=dict)
    called: Example | None = None
    ratios: list[float] = field(default_factory=list)
    noted: dict[str, Violation] = field(default_factory=dict)
    cut: int = 0

    def __call__(self, example: Example) -> None:
        """Raises unless the relation holds on the example: how Hypothesis is told."""
        if self.tried and time.monotonic() > self.deadline:
            raise _OutOfTime
        fault = self.fault_in(example)
        if fault is not None:
            self.convict(*fault)
        self.answered += 1

    def fault_in(self, example: Example) -> tuple[str, Example] | None:
        """What is wrong on this example, and the call that shows it; a refusal raises UnsatisfiedAssumption."""
        self.tried += 1
        self.called = None
        noted: list[Violation] = []
        try:
            with collecting(self.ratios), noting(noted), watching(self.outstanding):
                self.relation.check(self.call, example)
        except (HypothesisException, OpbenchError):
            raise  # assume() inside a check; wrong usage
        except Violation as violation:
            return str(violation), violation.example
        except WHAT_A_TARGET_RAISES as error:
            return self.judge(error, example)
        finally:
            for one in noted:
                self.note(one)
        return None

    def note(self, violation: Violation) -> None:
        """Keeps the smallest of what is fragile for the same cause."""
        known = self.noted.get(violation.cause)
        if known is None or _size(violation.example) < _size(known.example):
            self.noted[violation.cause] = violation

    def call(self, *tensors: torch.Tensor, **named: Any) -> torch.Tensor:
        """The core, watched."""
        given = {str(position): tensor for position, tensor in enumerate(tensors)}
        given |= {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}
        made = Example(given, {name: value for name, value in named.items() if name not in given})
        self.called = made
        with self.outstanding.during(made):
            out = self.core(*tensors, **named)
        self.outstanding.backward_of(out, made)
        self.accepted.setdefault(repr(sorted(made.options.items())), made.options)
        _on_the_same_device(out, made)
        return out

    def judge(self, error: BaseException, example: Example) -> tuple[str, Example]:
        """An exception is a refusal, wrong usage, or a fault with its message and example."""
        made = self.called or example
        message = said(error)
        if self.space.device == "cpu" and is_missing_cuda(error, message) and not self.accepted:
            where = "use --device cuda" if torch.cuda.is_available() else "there is no CUDA device here"
            line = line_of(error)
            raise OpbenchError(
                f"not judged: the target needs CUDA, {where}: its first call raised {message}"
                + (f" ({line})" if line else "")
            ) from error
        strided = self.relation.name.startswith("gradient-")
        cause = fragile_because(message, made, self.space, strided=strided)
        where_of = getattr(self.core, "raises_where", None)  # a module is asked whether it takes plain calls
        excusable = not cause and not self.relation.of_use and not _refused(error)
        where = where_of(made.options) if where_of is not None and excusable else ""
        cause = f"raises {where}" if where else cause
        if cause:
            self.note(Violation(f"raised {message}{place_of(error)}", made, cause))
            raise UnsatisfiedAssumption from error
        if refuses(error, message, made, self.words):
            self.refusals.setdefault(repr(sorted(made.options.items())), Refused(made.options, message))
            raise UnsatisfiedAssumption from error
        if isinstance(error, MemoryError) or MEMORY.search(message):
            return f"floods memory: raised {message}", made
        return f"raised {message}{place_of(error)}", made

    def convict(self, message: str, example: Example) -> None:
        """Notes the finding if it is the smallest, and tells Hypothesis, to which all faults are alike."""
        if self.smallest is None:
            self.deadline = time.monotonic() + self.shrink_seconds
        if self.smallest is None or _size(example) <= _size(self.smallest.example):
            self.smallest = SearchFinding(self.relation.name, self.relation.statement, message, example)
        raise _Convicted

    def outcome(self, reached: str = "") -> Searched:
        """What was seen, all in all."""
        finding = self.smallest
        if finding is not None and self.unsteady:
            message = f"{finding.message}; not every time: the same call, repeated, was right"
            finding = SearchFinding(finding.property, finding.statement, message, finding.example)
        name, statement = self.relation.name, self.relation.statement
        fragile = (SearchFinding(name, statement, str(v), v.example, v.cause) for v in self.noted.values())
        return Searched(
            finding,
            self.answered,
            tuple(self.accepted.values()),
            tuple(self.refusals.values()),
            max(self.ratios, default=None),
            reached,
            tuple(fragile),
            self.cut,
        )


def _refused(error: BaseException) -> bool:
    return isinstance(error, (NotImplementedError, AssertionError, MemoryError))


def _size(example: Example) -> int:
    return sum(tensor.numel() for tensor in example.tensors.values())


def _on_the_same_device(out: object, made: Example) -> None:
    """Said here, in plain words, because any comparison would only raise."""
    first = next(iter(made.tensors.values()), None)
    if isinstance(out, torch.Tensor) and first is not None and out.device != first.device:
        raise Violation(f"output: expected it on {first.device}, where the inputs are, got it on {out.device}", made)
