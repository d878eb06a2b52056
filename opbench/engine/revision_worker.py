"""The parent's side of `paired_worker`, the script that runs under one revision's package: answers and deaths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from opbench.engine.revisions import Revision
from opbench.process.child import Child
from opbench.process.death import Death
from opbench.schema import OpbenchError, Record, Verdict

_SCRIPT = Path(__file__).with_name("paired_worker.py")


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """A worker has imported its revision, from the folder `package`."""

    package: str


class Unknown(msgspec.Struct, frozen=True, tag=True):
    """The case is not declared in this revision."""


class Prepared(msgspec.Struct, frozen=True, tag=True):
    """A case was built and checked; `seconds` of a call and of the first one where it may be timed."""

    record: Record
    seconds: float | None = None
    first_call: float = 0.0


class TimedBlock(msgspec.Struct, frozen=True, tag=True):
    """One block of calls; `interrupted`: another process ran on its core meanwhile.

    `waited`: seconds that its threads were ready to run and had no core, together; None where the system doesn't say.
    """

    seconds: float
    interrupted: bool
    waited: float | None = None


class CheckedAgain(msgspec.Struct, frozen=True, tag=True):
    """The verdict on the last timed call."""

    verdict: Verdict


Answer = Loaded | Unknown | Prepared | TimedBlock | CheckedAgain


class WorkerLostError(Exception):
    """A worker died in the middle of a request."""

    def __init__(self, death: Death, request: str) -> None:
        super().__init__(f"the worker {death.message}, at {request!r}")
        self.outcome = death.outcome


class RevisionWorker:
    """One process of one revision. `ask` sends a request and waits for the answer, for so long."""

    def __init__(self, revision: Revision, threads: int) -> None:
        paths = [str(revision.root), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._child: Child[Answer] = Child(
            ["-P", str(_SCRIPT)],
            Answer,
            environment={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        try:
            loaded = self.ask(120, do="hello", threads=threads)
            assert isinstance(loaded, Loaded)
            package = Path(loaded.package)
            if package != (revision.root / "opbench").resolve():
                raise OpbenchError(f"the worker of {revision.root} imported {package}: it would time the wrong code")
        except BaseException:
            self.close()
            raise

    def ask(self, seconds: float, **request: Any) -> Answer:
        """One request, one answer; raises `WorkerLostError` if the process ends, or has to be ended."""
        self._child.send(request)
        answer = self._child.receive(seconds)
        if isinstance(answer, Death):
            raise WorkerLostError(answer, request["do"])
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._child.stop()
