"""The judge's process: `python -m opbench.engine.judging.judge FD`, with the memory that outputs are handed over in.

It knows what opbench itself declares and never imports a `--with` file or an entry point. Inputs and parameters are
drawn from a case's seed, here as in the worker, so that the definition's answer needs nothing of the worker's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch
from msgspec.structs import replace

from opbench import registry
from opbench.build import build
from opbench.engine.check_case import reference_key
from opbench.engine.judging.handing import taken_over
from opbench.engine.judging.messages import (
    Expected,
    ForeignDefinition,
    JudgeAnswer,
    NotJudged,
    OutputJudged,
    Question,
    Ready,
)
from opbench.process.channel import serve
from opbench.schema import DEFAULT_RUNTIME, Case
from opbench.verify.gate import Reference, reference
from opbench.verify.kept import sample


class Judge:
    """The definition's answers of one panel, and of earlier ones a sample that later visits are judged by."""

    def __init__(self, file_descriptor: int) -> None:
        self._file_descriptor = file_descriptor
        self._panel = ""
        self._answers: dict[str, Reference] = {}
        self._samples: dict[tuple[str, str], Reference] = {}

    def answer(self, question: Question) -> Iterator[JudgeAnswer]:
        """Answers a question."""
        yield self._answer(question)

    def _answer(self, question: Question) -> JudgeAnswer:
        case = question.case
        if case is None:
            return Ready()
        if not registry.built_in(case.task, case.operator):
            return ForeignDefinition()
        try:
            expected = self._expected(case, question)
            if question.handed is None:
                return Expected({name: tuple(shape) for name, shape in expected.shapes.items()}, expected.basis)
            return OutputJudged(expected.judge(taken_over(self._file_descriptor, question.handed)))
        except MemoryError:
            return NotJudged("the definition needs more memory than there is", memory=True)
        except Exception as error:  # it is of this case alone; the run goes on
            return NotJudged(f"{type(error).__name__}: {error}", memory="can't allocate memory" in str(error))

    def _expected(self, case: Case, question: Question) -> Reference:
        if question.panel != self._panel:
            self._panel, self._answers = question.panel, {}
        key = reference_key(case)
        if question.later and (kept := self._samples.get((question.panel, key))):
            return kept
        if key not in self._answers:
            if question.threads is not None:
                torch.set_num_threads(question.threads)
            # The contender's implementation and runtime are not here: the operator's first one stands in its place.
            case = replace(case, runtime=DEFAULT_RUNTIME)
            first = next(iter(registry.operator(case.task, case.operator).implementations.values()))
            self._answers[key] = reference(build(case, first))
            if question.sampled:
                self._samples[question.panel, key] = sample(self._answers[key])
        return self._answers[key]


if __name__ == "__main__":
    registry.load_nothing_else()
    serve(Question, Judge(int(sys.argv[1])).answer)
