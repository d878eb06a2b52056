"""The nouns of `opbench claims`: what somebody says, what one measure finds, and the answer that is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from opbench.analyse.standings import Standing
from opbench.schema import Dims, Run

Decision = Literal["confirmed", "refuted", "undecided"]
DECISIONS: tuple[Decision, ...] = ("confirmed", "refuted", "undecided")


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What its maintainers print of a network (GFLOPs of one image; 1 MAC = 2 FLOPs), and the slots of an operator."""

    params: int
    gflops: float
    slots: tuple[Dims, ...]


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody says and how it is tested.

    `reading` is what a measurement must show for the saying to hold. `subject` is an operator, its fastest
    implementation where time counts, or a contender. It is held `against` each baseline: the quotient of the two must
    be `below` or `above` a number. `printed` gives [FLOPs per input pixel, parameters] of operators, as the source
    prints them; `networks` are the baselines of a claim on a share of a whole network. `why` explains what can't be
    decided.
    """

    claim: str
    source: str
    reading: str
    measure: str
    task: str = ""
    subject: str = ""
    against: tuple[str, ...] = ()
    dims: tuple[dict[str, int], ...] = ()
    against_dims: dict[str, int] = {}
    below: float | None = None
    above: float | None = None
    printed: dict[str, tuple[str, str]] = {}
    networks: dict[str, Network] = {}
    why: str = ""

    @property
    def baselines(self) -> tuple[str, ...]:
        """One answer for each."""
        return self.against or tuple(self.printed) or ("",)

    def holds(self, low: float, high: float) -> Decision:
        """A quotient known to lie between `low` and `high`: decided only where all of the interval is on one side."""
        inside = [
            (self.below is None or end < self.below) and (self.above is None or end > self.above) for end in (low, high)
        ]
        return "confirmed" if all(inside) else "undecided" if any(inside) else "refuted"


class Finding(msgspec.Struct, frozen=True):
    """What one measure says of a claim against one baseline: a sentence, and the run documents behind it."""

    verdict: Decision
    evidence: str
    documents: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """What became of a claim against one baseline: a sentence with the numbers, and the run documents behind it."""

    claim: str
    source: str
    verdict: Decision
    evidence: str
    baseline: str
    reading: str = ""
    documents: tuple[str, ...] = ()


class Answers(msgspec.Struct, frozen=True):
    """What `opbench claims --json` prints: an answer for every claim and baseline."""

    answers: tuple[Answer, ...]


class Document(msgspec.Struct, frozen=True):
    """A run document and its panels, put together once for all claims."""

    run: Run
    standings: tuple[Standing, ...]


Measure = Callable[[Claim, str, Sequence[Document]], Finding]


def times(value: float) -> str:
    """A quotient in a sentence: `0.126x`."""
    return f"{value:.3g}x"


def everywhere(verdicts: Sequence[Decision]) -> Decision:
    """One verdict of many places: a claim that fails in one of them does not hold; it holds where all confirm it."""
    if "refuted" in verdicts:
        return "refuted"
    return "confirmed" if verdicts and set(verdicts) == {"confirmed"} else "undecided"
