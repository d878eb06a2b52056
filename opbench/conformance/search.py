"""The search for a counterexample: one relation, one core, Hypothesis in between.

What a core raises is its own doing and becomes part of the finding. Two things it may say are no fault: that it does
not implement something (NotImplementedError), and that an option is out of its range (a ValueError that names the
option). Such examples are put aside as refusals and others are drawn in their place.
"""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis.errors import Flaky, HypothesisException, Unsatisfiable, UnsatisfiedAssumption

from opbench.conformance.comparing import collecting
from opbench.errors import said
from opbench.relations import Core, Example, Relation, Space, Violation
from opbench.schema import OpbenchError

MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory|bad_?alloc", re.IGNORECASE)
NEEDS_CUDA = re.compile(
    r"not compiled with CUDA|no NVIDIA driver|No CUDA GPUs|is_cuda|must be (on )?a? ?CUDA|expected .*\bCUDA\b"
    r"|cannot be accessed from Triton|0 active drivers|Could not find .*CUDA",
    re.IGNORECASE,
)
# torch's own words for a kernel that lacks a dtype.
LACKS_DTYPE = re.compile(r"not implemented for '")
WHAT_A_TARGET_RAISES = (Exception, SystemExit, GeneratorExit, KeyboardInterrupt)


@dataclass(frozen=True)
class SearchFinding:
    """A relation does not hold: what is wrong, on the smallest example that shows it."""

    property: str
    statement: str
    message: str
    example: Example


@dataclass(frozen=True)
class Refused:
    """Options at which the core said that it can't, and what it said."""

    options: Mapping[str, Any]
    message: str


@dataclass(frozen=True)
class Searched:
    """What a search came to: `examples` is how many the core answered, `accepted` the different options it did at.

    `worst_ratio` is the largest |error| / bound met on any example; None where nothing was compared within a bound.
    `reached` says how far it got, where that is more than a number of examples.
    """

    finding: SearchFinding | None
    examples: int
    accepted: tuple[Mapping[str, Any], ...]
    refusals: tuple[Refused, ...]
    worst_ratio: float | None = None
    reached: str = ""


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
) -> Searched:
    """Tries `relation` on `core` on up to `examples` examples, the same ones for the same seed.

    Ends early after `seconds`, and the shrinking of a counterexample after `shrink_seconds`, though never before one
    example was tried. `words` are further names by which a ValueError may mean an option. `before_call` hears of every
    call of the core. Raises OpbenchError if the core turns out to need CUDA where the space is on the CPU.
    """
    attempt = Attempt(relation, core, space, words, before_call, time.monotonic() + seconds, shrink_seconds)
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
    except (_Convicted, _OutOfTime, Unsatisfiable):
        pass  # the attempt knows what it saw
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
    before_call: Callable[[Example], None]
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
        try:
            with collecting(self.ratios):
                self.relation.check(self.call, example)
        except (HypothesisException, OpbenchError):
            raise  # assume() inside a check; wrong usage
        except Violation as violation:
            return str(violation), violation.example
        except WHAT_A_TARGET_RAISES as error:
            return self.judge(error, example)
        return None

    def call(self, *tensors: torch.Tensor, **named: Any) -> torch.Tensor:
        """The core, watched."""
        given = {str(position): tensor for position, tensor in enumerate(tensors)}
        given |= {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}
        made = Example(given, {name: value for name, value in named.items() if name not in given})
        self.called = made
        self.before_call(made)
        out = self.core(*tensors, **named)
        self.accepted.setdefault(repr(sorted(made.options.items())), made.options)
        _on_the_same_device(out, made)
        return out

    def judge(self, error: BaseException, example: Example) -> tuple[str, Example]:
        """An exception is a refusal, wrong usage, or a fault with its message and example."""
        made = self.called or example
        message = said(error)
        if _is_missing_cuda(error, message) and self.space.device == "cpu" and not self.accepted:
            where = "use --device cuda" if torch.cuda.is_available() else "there is no CUDA device here"
            raise OpbenchError(f"the target needs CUDA, {where}: its first call raised {message}") from error
        if self._refuses(error, message, made):
            self.refusals.setdefault(repr(sorted(made.options.items())), Refused(made.options, message))
            raise UnsatisfiedAssumption from error
        if isinstance(error, MemoryError) or MEMORY.search(message):
            return f"floods memory: raised {message}", made
        return f"raised {message}{_place(error)}", made

    def _refuses(self, error: BaseException, message: str, made: Example) -> bool:
        if isinstance(error, NotImplementedError) or LACKS_DTYPE.search(message):
            return True
        if not isinstance(error, ValueError):
            return False
        return _names_one({*made.options, *self.words}, str(error), but=set(made.tensors))

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
        accepted, refusals = tuple(self.accepted.values()), tuple(self.refusals.values())
        return Searched(finding, self.answered, accepted, refusals, max(self.ratios, default=None), reached)


def _names_one(options: Collection[str], message: str, but: Collection[str]) -> bool:
    """Whether the message speaks of an option: by its name, or by its first word unless that is a tensor's name."""
    whole = {*options, *(name.replace("_", " ") for name in options)}
    heads = {head for name in options if len(head := name.split("_")[0]) > 2} - set(but)
    patterns = [*(rf"\b{re.escape(name)}\b" for name in whole), *(rf"\b{re.escape(head)}" for head in heads)]
    return any(re.search(pattern, message, re.IGNORECASE) for pattern in patterns)


def _is_missing_cuda(error: BaseException, message: str) -> bool:
    return isinstance(error, (RuntimeError, AssertionError, ValueError, TypeError)) and bool(NEEDS_CUDA.search(message))


def _place(error: BaseException) -> str:
    """Where in the target's own code it was raised, as far as that can be told."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        inside = any(part in frame.filename for part in ("site-packages", "opbench/verify", "opbench\\verify", "<"))
        if not inside:
            return f" ({frame.filename.rsplit('/', 1)[-1]}, line {frame.lineno})"
    return ""


def _size(example: Example) -> int:
    return sum(tensor.numel() for tensor in example.tensors.values())


def _on_the_same_device(out: object, made: Example) -> None:
    """Said here, in plain words, because any comparison would only raise."""
    first = next(iter(made.tensors.values()), None)
    if isinstance(out, torch.Tensor) and first is not None and out.device != first.device:
        raise Violation(f"output: expected it on {first.device}, where the inputs are, got it on {out.device}", made)
