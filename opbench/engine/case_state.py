"""One case while its panel is measured: what is known of it so far, and how it failed."""

from __future__ import annotations

import os
import random
import sys
import zlib
from dataclasses import dataclass, field

import torch

from opbench import registry
from opbench.engine import state
from opbench.engine.audit import Caught
from opbench.engine.check_case import CheckedCase
from opbench.engine.own_process import OwnProcess
from opbench.errors import said, text_of
from opbench.schema import Case, Counts, Latency, Memory, Outcome, Record, Verdict

# The exit code of a process whose CUDA context a contender has destroyed.
CONTEXT_LOST = 72
# Of what an error says: a message may be megabytes.
LONGEST_MESSAGE = 2000
# That a call may start beside those of the run: autograd's, and a library's own.
OWN_THREADS = 4


@dataclass
class CaseState:
    """`position` is the case's in the panel; `last` the result of its last timed call."""

    case: Case
    position: int
    checked: CheckedCase | None = None
    outcome: Outcome = "ok"
    message: str = ""
    verdict: Verdict | None = None
    final_verdict: Verdict | None = None
    counts: Counts | None = None
    memory: Memory | None = None
    latencies: list[Latency] = field(default_factory=list)
    last: tuple[torch.Tensor, ...] = ()
    notes: list[str] = field(default_factory=list)
    left_threads: int = 0
    process: OwnProcess | None = None  # the worker's; None where the process is somebody else's, too
    # Where and with what it is audited: not the same again where its panel is timed anew without another contender.
    draw: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Seeded by the case, so that a run repeats itself."""
        self.draw = random.Random(self.case.seed + zlib.crc32(self.case.id.encode()))

    def record(self) -> Record:
        """What the run document holds of it."""
        return Record(
            case=self.case,
            outcome=self.outcome,
            message=self.message,
            verdict=self.verdict,
            final_verdict=self.final_verdict,
            counts=self.counts,
            memory=self.memory,
            latencies=tuple(self.latencies) if self.outcome == "ok" else (),
            notes=tuple(self.notes),
            artifact=getattr(self.checked.built.module, "artifact", None) if self.checked else None,
        )

    def after_check(self) -> CheckedCase:
        """The checked case, of one that has been checked."""
        assert self.checked is not None
        return self.checked

    def fail(self, error: Exception) -> None:
        """Names the failure. The exceptions of a contender are anybody's: whatever it raises is its outcome."""
        end_with_the_device(self.case, error)
        self.outcome = _outcome(error)
        self.message = one_line(error)
        if isinstance(error, Caught):
            self.final_verdict = error.verdict

    def judge(self, verdict: Verdict) -> None:
        """Takes the verdict for the outcome if it is a bad one."""
        if not verdict.correct:
            self.outcome, self.message = "incorrect", verdict.reason

    def restore(self, before: state.State, *, all_of_it: bool = True) -> None:
        """Puts back what the contender changed of the process's state since `before`.

        Raises `Caught` for a judge or a clock that it replaced. Where something can't be put back, the process ends.
        """
        try:
            for change in state.restore(before):
                self.note(change)
        except state.Unrestorable as error:
            if self.process is None:
                raise
            self.process.lose(str(error))
        if self.process is not None:
            self._restore_code(self.process, all_of_it)
        more = state.threads() - before.threads
        if more > 0 and not registry.opaque(self.case):  # a compiler and a runtime keep threads of their own, once
            self.left_threads += more
            if self.left_threads > state.LEFT_THREADS_AT_MOST:
                raise RuntimeError(f"leaks threads: its calls have left {self.left_threads} of them running")
            if self.process is not None and self.process.threads_at_work():
                self.process.lose(f"left {self.left_threads} of its threads at work")

    def _restore_code(self, process: OwnProcess, all_of_it: bool) -> None:
        self._refuse_threads(process, judged=not all_of_it)  # in a stage opbench's own work may start some, too
        judges, tools = process.replaced(all_of_it=all_of_it)
        for name in tools:
            self.note(f"replaced {name}; put back")
        if registry.opaque(self.case):
            process.keeps_children()
        elif left := process.end_children(all_of_it=all_of_it):
            self.note(f"left {left} of its processes running; ended")
        _refuse(judges)

    def look(self) -> None:
        """Whether the judge is itself, right after a call of the contender's: raises `Caught` where it isn't."""
        if self.process is not None:
            self._refuse_threads(self.process, judged=True)
            judges, tools = self.process.replaced(all_of_it=False)
            for name in tools:
                self.note(f"replaced {name}; put back")
            _refuse(judges)

    def _refuse_threads(self, process: OwnProcess, *, judged: bool) -> None:
        allowed = torch.get_num_threads() + OWN_THREADS
        beyond = process.threads_beyond(allowed)
        if judged and beyond > 0 and self.case.device == "cpu" and not registry.opaque(self.case):
            raise Caught(f"starts {beyond + allowed} threads, where the run has {torch.get_num_threads()}")

    def note(self, text: str) -> None:
        """Adds a note, once."""
        if text not in self.notes:
            self.notes.append(text)


def _refuse(judges: list[str]) -> None:
    if judges:
        what = "timed" if judges[0].startswith("time.") else "judged"
        raise Caught(f"replaces {judges[0]}, by which contenders are {what}")


def end_with_the_device(case: Case, error: Exception) -> None:
    """Ends the process if an error has cost it its CUDA context: after it, every other contender would fail, too.

    Whose case the heartbeat names is then recorded as crashed, and the panel measured without it in a new process.
    """
    if case.device != "cuda" or isinstance(error, torch.OutOfMemoryError):
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        print(one_line(error), file=sys.stderr, flush=True)
        os._exit(CONTEXT_LOST)


def one_line(error: Exception) -> str:
    """The error's type and the first line of its message; of what an audit has found the message alone."""
    return text_of(error) if isinstance(error, Caught) else said(error, LONGEST_MESSAGE)


def _outcome(error: Exception) -> Outcome:
    if isinstance(error, Caught):
        return "incorrect"
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out-of-memory"
    text = text_of(error)
    if isinstance(error, NotImplementedError) or "not implemented for" in text:
        return "unsupported"
    if isinstance(error, RuntimeError) and "can't allocate memory" in text:
        return "out-of-memory"
    return "raised"
