"""How a child process was lost: hang, crash, out of memory or flood of output, each with its sentence."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Literal, NamedTuple

from opbench.schema import Outcome

DeathKind = Literal["hang", "crash", "out-of-memory", "flood"]
_OUTCOMES: dict[DeathKind, Outcome] = {
    "hang": "timed-out",
    "crash": "crashed",
    "out-of-memory": "out-of-memory",
    "flood": "crashed",
}


class Death(NamedTuple):
    """The end of a child that owed an answer. `message` goes on a sentence whose subject is the child.

    `foreign`: killed by a SIGKILL that this process did not send, perhaps by a system that is out of memory, perhaps
    by a person: one such death is no evidence against the code that ran.
    """

    kind: DeathKind
    message: str
    foreign: bool = False

    @property
    def outcome(self) -> Outcome:
        """What a record of the code that ran is called."""
        return _OUTCOMES[self.kind]


def hung(seconds: float, why: str = "") -> Death:
    """Nothing was heard from the child for so long, which is the limit; `why` it was longer than that."""
    return Death("hang", f"killed after {seconds:g} s without a sign of life (the limit{why})")


def too_large(resident_bytes: int, allowed_bytes: int) -> Death:
    """The child held more memory than it may."""
    return Death("out-of-memory", f"killed at {_gib(resident_bytes)} GiB (allowed: {_gib(allowed_bytes)} GiB)")


def flooded(allowed_bytes: int) -> Death:
    """The child wrote this much that is no message where messages belong."""
    return Death("flood", f"killed for {allowed_bytes / 2**30:.3g} GiB of output that is no message")


def crashed(code: int, last_error: str = "") -> Death:
    """The child ended by itself, or by a signal from elsewhere; `code` as subprocess has it, negative for a signal."""
    after = f" ({last_error})" if last_error else ""
    if code >= 0:
        return Death("crash", f"ended the process, exit code {code}{after}")
    name = signal.Signals(-code).name
    foreign = name == "SIGKILL"
    memory = ", as a system does that is out of memory" if foreign else ""
    return Death("crash", f"died with {name}{memory}{after}", foreign)


def end_group(pid: int) -> None:
    """Kills the process group that `pid` leads, if there is one."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f}"
