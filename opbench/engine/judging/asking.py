"""The worker's side: a reference that holds no answer, and asks the judge about every result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from opbench.build import Built
from opbench.engine.judging.handing import hand_over
from opbench.engine.judging.messages import (
    AskJudge,
    Expected,
    ForeignDefinition,
    HandedTensor,
    JudgeAnswer,
    NotJudged,
    OutputJudged,
)
from opbench.process.channel import Channel
from opbench.schema import Verdict
from opbench.verify.gate import Reference, reference

Ask = Callable[[tuple[HandedTensor, ...] | None], JudgeAnswer]


@dataclass(frozen=True)
class ReferenceElsewhere(Reference):
    """The definition's answer, which the judge has: here are its shapes alone."""

    ask: Ask = field(kw_only=True)
    file_descriptor: int = field(kw_only=True)
    known_shapes: Mapping[str, torch.Size] = field(kw_only=True)

    @property
    def shapes(self) -> Mapping[str, torch.Size]:
        """Of output and gradients, by name."""
        return self.known_shapes

    def judge(self, got: Mapping[str, object]) -> Verdict:
        """The judge's verdict on a contender's output and gradients by name."""
        answer = self.ask(hand_over(self.file_descriptor, got, self.known_shapes, self.dtype))
        if not isinstance(answer, OutputJudged):
            raise _unanswered(answer)
        return answer.verdict


class JudgeElsewhere:
    """Asks by the worker's channel, while one assignment is carried out."""

    def __init__(self, wire: Channel, number: int, file_descriptor: int) -> None:
        self._wire, self._number, self._file_descriptor = wire, number, file_descriptor

    def reference(self, built: Built) -> Reference:
        """The judge's answer to a case; this process's own, where the definition is not one of opbench's."""
        if built.case.device != "cpu":
            return reference(built)
        answer = self._ask(None)
        if isinstance(answer, ForeignDefinition):
            return reference(built)
        if not isinstance(answer, Expected):
            raise _unanswered(answer)
        shapes = {name: torch.Size(shape) for name, shape in answer.shapes.items()}
        return ReferenceElsewhere(
            {}, {}, built.case.dtype, answer.basis,
            ask=self._ask, file_descriptor=self._file_descriptor, known_shapes=shapes,
        )  # fmt: skip

    def _ask(self, handed: tuple[HandedTensor, ...] | None) -> JudgeAnswer:
        self._wire.send(AskJudge(self._number, handed))
        answer = self._wire.receive(JudgeAnswer)  # type: ignore[arg-type]
        return NotJudged("the run has ended") if answer is None else answer


def _unanswered(answer: JudgeAnswer) -> Exception:
    if isinstance(answer, NotJudged):
        return (MemoryError if answer.memory else RuntimeError)(answer.message)
    return RuntimeError(f"the judge gave no verdict but a {type(answer).__name__}")
