"""One revision's worker: builds, checks and counts a case when told, then times one block of calls a turn.

A script of its own, run by its path with another revision's package in front of it: it may import only what that
revision has under the same names (registry, build, the gate, the counters) and nothing that is new beside it. So its
side of the protocol of `opbench.process` is written out here: a line of JSON for a request, a line of JSON with its
"type" for an answer. What a contender prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import time
from typing import IO, Any

try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]  # not a Unix: no block is known to be interrupted


class RevisionUnderTest:
    """What one process holds between requests: the case at hand."""

    def __init__(self) -> None:
        self.built: Any = None
        self.expected: Any = None
        self.last: Any = ()
        self.waits = _Waits()

    def hello(self, threads: int) -> dict[str, Any]:
        """Loads the declarations; says which package this is."""
        import torch

        import opbench
        from opbench import registry

        torch.set_num_threads(threads)
        registry.load()
        return {"type": "Loaded", "package": os.path.dirname(opbench.__file__)}

    def prepare(self, case: Any, count: bool) -> dict[str, Any]:
        """Builds a case and holds it against the definition: its record so far, and the seconds of a call."""
        from opbench import registry
        from opbench.build import build
        from opbench.schema import Case, Record
        from opbench.verify.gate import check, reference

        self.built = self.expected = None
        self.last = ()
        gc.collect()
        decode, encode = _text()
        wanted = decode(json.dumps(case).encode(), Case)
        if wanted.task not in registry.tasks() or wanted.operator not in registry.operators(wanted.task):
            return {"type": "Unknown"}
        if wanted.implementation not in registry.operator(wanted.task, wanted.operator).implementations:
            return {"type": "Unknown"}
        fields: dict[str, Any] = {}
        try:
            self.built = build(wanted)
            self.expected = reference(self.built)
            begin = time.perf_counter()
            self._call()
            first_call = time.perf_counter() - begin
            fields["verdict"] = verdict = check(self.built, self.expected)
            if not verdict.correct:
                wrong = Record(wanted, "incorrect", verdict.reason, verdict)
                return {"type": "Prepared", "record": _builtins(encode(wrong))}
            if count:
                fields |= self._counted(wanted)
            self._call()
            begin = time.perf_counter()
            self._call()
            seconds = time.perf_counter() - begin
        except Exception as error:  # a contender may raise anything; the outcome and message name it
            raised = Record(wanted, "raised", f"{type(error).__name__}: {error}")
            return {"type": "Prepared", "record": _builtins(encode(raised))}
        record = _builtins(encode(Record(case=wanted, outcome="ok", **fields)))
        return {"type": "Prepared", "record": record, "seconds": seconds, "first_call": first_call}

    def _counted(self, case: Any) -> dict[str, Any]:
        from opbench.measure.macs import count
        from opbench.measure.memory import measure_memory

        return {"counts": count(case, self.built), "memory": measure_memory(self.built)}

    def block(self, calls: int) -> dict[str, Any]:
        """Seconds of all calls together. The call before them, untimed, brings the data back into the cache."""
        self._call()
        gc.disable()
        waited, before = self.waits.seconds(), _interruptions()
        begin = time.perf_counter()
        for _ in range(calls):
            self._call()
        seconds = time.perf_counter() - begin
        interrupted, after = _interruptions() != before, self.waits.seconds()
        gc.enable()
        lost = None if waited is None or after is None else max(0.0, after - waited)
        return {"type": "TimedBlock", "seconds": seconds, "interrupted": interrupted, "waited": lost}

    def finish(self) -> dict[str, Any]:
        """The verdict on the last timed call."""
        got = dict(zip(("output", *self.built.differentiated), self.last, strict=True))
        return {"type": "CheckedAgain", "verdict": _builtins(_text()[1](self.expected.judge(got)))}

    def _call(self) -> None:
        import torch

        built = self.built
        if built.grad_output is None:
            with torch.inference_mode():
                self.last = (built.module(*built.inputs),)
        else:
            output = built.module(*built.inputs)
            gradients = torch.autograd.grad(output, built.leaves(), built.grad_output, allow_unused=True)
            self.last = (output.detach(), *gradients)


class _Waits:
    """How long this process's threads have been ready to run and had no core, as Linux counts it per thread.

    The files stay open: opening them would cost more than reading.
    """

    def __init__(self, tasks: str = "/proc/self/task") -> None:
        self._tasks = tasks
        self._files: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._ended = 0  # nanoseconds that threads which have ended had waited

    def seconds(self) -> float | None:
        """So far, ended threads included as last seen; None where the system doesn't say."""
        try:
            now = set(os.listdir(self._tasks))
        except OSError:
            return None
        for thread in self._files.keys() - now:
            os.close(self._files.pop(thread))
            self._ended += self._last.pop(thread, 0)
        for thread in now - self._files.keys():
            with contextlib.suppress(OSError):
                self._files[thread] = os.open(os.path.join(self._tasks, thread, "schedstat"), os.O_RDONLY)
        if not self._files:
            return None
        for thread, file in self._files.items():
            with contextlib.suppress(OSError, IndexError, ValueError):
                self._last[thread] = int(os.pread(file, 128, 0).split()[1])
        return (self._ended + sum(self._last.values())) / 1e9


def _text() -> Any:
    """`decode` and `encode`: of `opbench.documents`, which older revisions have as `opbench.document`."""
    import opbench

    # Looked for beside the package at hand: an editable install has the other revision's modules too.
    there = os.path.isdir(os.path.join(os.path.dirname(opbench.__file__), "documents"))
    module = importlib.import_module("opbench.documents" if there else "opbench.document")
    return module.decode, module.encode


def _builtins(encoded: bytes) -> Any:
    return json.loads(encoded)


def _interruptions() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else 0


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answers requests until there are no more."""
    worker = RevisionUnderTest()
    for line in requests:
        request = json.loads(line)
        answers.write(json.dumps(getattr(worker, request.pop("do"))(**request)) + "\n")
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(OSError, AttributeError):  # Linux ends this process with its parent
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, channel)
