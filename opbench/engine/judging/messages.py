"""What the worker, the run and the judge say to each other of outputs.

The worker asks, the run puts in whose case it is and asks the judge, and hands the answer on.
"""

from __future__ import annotations

import msgspec

from opbench.schema import Case, Verdict


class HandedTensor(msgspec.Struct, frozen=True):
    """One tensor of a contender's results by name, and where its bytes lie in the shared memory.

    `kind` is the name of its class where it is no tensor. `begin` is None where its bytes are of no use: its shape or
    dtype are not the expected ones, or it has no elements.
    """

    name: str
    kind: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    begin: int | None = None


class AskJudge(msgspec.Struct, frozen=True, tag=True):
    """The worker's question about whoever is being called: how large the answer is, or whether `handed` is one."""

    number: int
    handed: tuple[HandedTensor, ...] | None = None


class Question(msgspec.Struct, frozen=True):
    """The same for the judge: of a case of this panel, at its first visit or a later one.

    `sampled`: there will be later visits, for which a sample of the definition's answer is kept. Without a case it
    asks whether the judge is ready.
    """

    panel: str = ""
    case: Case | None = None
    handed: tuple[HandedTensor, ...] | None = None
    threads: int | None = None
    later: bool = False
    sampled: bool = False


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The judge has imported what it needs."""


class Expected(msgspec.Struct, frozen=True, tag=True):
    """The shapes of output and gradients by name."""

    shapes: dict[str, tuple[int, ...]]
    basis: str


class OutputJudged(msgspec.Struct, frozen=True, tag=True):
    """The verdict on what was handed over."""

    verdict: Verdict


class ForeignDefinition(msgspec.Struct, frozen=True, tag=True):
    """The operator is not one of opbench's own: its definition is in a file that the judge doesn't load."""


class NotJudged(msgspec.Struct, frozen=True, tag=True):
    """Why there is no answer; `memory`: the definition needs more than there is."""

    message: str
    memory: bool = False


JudgeAnswer = Ready | Expected | OutputJudged | ForeignDefinition | NotJudged
