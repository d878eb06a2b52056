"""The run's side: the judge's process, and its verdicts, which are those of the record."""

from __future__ import annotations

import os
from collections.abc import Sequence

from msgspec.structs import replace

from opbench.engine.judging.messages import (
    AskJudge,
    Expected,
    ForeignDefinition,
    JudgeAnswer,
    NotJudged,
    OutputJudged,
    Question,
    Ready,
)
from opbench.engine.messages import Measure
from opbench.process.child import Child
from opbench.process.death import Death
from opbench.process.memory_file import memory_file
from opbench.schema import Record, Verdict

JUDGE = "opbench.engine.judging.judge"
# Before the timing, of a timed call drawn at random, and of the last one.
VERDICTS_AT_LEAST = 3


class Judging:
    """The judge's process, started when made, and what it has said of the assignment at hand, by position.

    `threads` are the worker's: values that are computed before they are an input are the same with as many.
    """

    def __init__(self, threads: int | None, memory_bytes: int | None) -> None:
        self._threads, self._memory_bytes = threads, memory_bytes
        self.file_descriptor = memory_file("opbench-outputs")
        self._child: Child[JudgeAnswer] | None = self._start()
        self._work: Measure | None = None
        self._verdicts: dict[int, list[Verdict]] = {}
        self._foreign: set[tuple[str, str]] = set()  # operators (with their task), which the judge doesn't know

    def _start(self) -> Child[JudgeAnswer]:
        # A thread that spins while it waits would take a core from the block of calls that comes next.
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        fd = self.file_descriptor
        return Child(
            ["-m", JUDGE, str(fd)],
            Ready | Expected | OutputJudged | ForeignDefinition | NotJudged,
            environment=environment,
            pass_fds=[fd],
            memory_bytes=self._memory_bytes,
            broken="the judging process failed, not a contender",
        )

    def wait(self, seconds: float) -> None:
        """Until its process has imported what it needs: importing keeps a core busy, and is timed by nobody."""
        self._ask(Question(), seconds)

    def begin(self, work: Measure) -> None:
        """An assignment is about to be given."""
        self._work, self._verdicts = work, {}

    def answer(self, asked: AskJudge, position: int | None, seconds: float) -> JudgeAnswer:
        """Has the judge answer of the case at `position`, whose call is going on, within so many seconds."""
        work = self._work
        if work is None or position is None or not 0 <= position < len(work.panel.cases):
            return NotJudged("nobody's call is going on")
        case = work.panel.cases[position]
        question = Question(
            panel=work.panel.id,
            case=case,
            handed=asked.handed,
            threads=self._threads,
            later=not work.counting,
            sampled=bool(work.answers),
        )
        answer = self._ask(question, seconds)
        if isinstance(answer, OutputJudged):
            self._verdicts.setdefault(position, []).append(answer.verdict)
        if isinstance(answer, ForeignDefinition):
            self._foreign.add((case.task, case.operator))
        return answer

    def _ask(self, question: Question, seconds: float) -> JudgeAnswer:
        answer = self._asked(question, seconds)
        if isinstance(answer, Death) and answer.kind == "crash":  # anybody may have killed it, once
            answer = self._asked(question, seconds)
        if isinstance(answer, Death):
            message = f"the judging process {answer.message} over the definition or an output"
            return NotJudged(message, memory=answer.outcome == "out-of-memory")
        return answer

    def _asked(self, question: Question, seconds: float) -> JudgeAnswer | Death:
        if self._child is None:
            self._child = self._start()
        self._child.send(question)
        answer = self._child.receive(seconds)
        if isinstance(answer, Death):
            self.stop()
        return answer

    def unbacked(self, records: Sequence[Record]) -> int | None:
        """The position of a record that says more than the judge has found; None where none does.

        Of several it is the one of which the least is known: who writes a result for everybody does so in a call of
        their own, and the first is judged before others are called a second time.
        """
        found = []
        for position, record in enumerate(records):
            verdicts = self._verdicts.get(position, [])
            foreign = (record.case.task, record.case.operator) in self._foreign
            if record.outcome != "ok" or record.case.device != "cpu" or foreign:
                continue
            if len(verdicts) < VERDICTS_AT_LEAST or not all(verdict.correct for verdict in verdicts):
                found.append((len(verdicts), position))
        return min(found)[1] if found else None

    def verdicts(self, records: Sequence[Record]) -> tuple[Record, ...]:
        """The records with the judge's verdicts, first and last, in place of what the worker says that they were."""
        return tuple(
            replace(record, verdict=found[0], final_verdict=found[-1])
            if record.outcome == "ok" and (found := self._verdicts.get(position))
            else record
            for position, record in enumerate(records)
        )

    def stop(self) -> None:
        """Ends the process."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def close(self) -> None:
        """Ends the process, and gives the shared memory back."""
        self.stop()
        os.close(self.file_descriptor)
