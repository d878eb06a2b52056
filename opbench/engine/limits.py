"""How long and how large a worker may get, and how one is lost that gets beyond it or dies.

Time: the worker's heartbeat counts before every step and every block of calls. A count that stands still for longer
than the step is allowed is a hang. Memory: the worker's resident set is looked at ten times a second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import NamedTuple

import msgspec

from opbench.engine.messages import Message
from opbench.engine.steps import CaseStep
from opbench.process.child import Child
from opbench.process.death import Death, end_group, hung
from opbench.process.heartbeat import Beat, Heartbeat
from opbench.process.patience import Limit
from opbench.schema import Outcome

KILL_SECONDS = 10.0
_NOTHING = Beat(None, CaseStep.IDLE, 0, 0)


# Of one step of a contender's, and of opbench's own work, unless something else is asked for.
STEP_SECONDS, OWN_SECONDS = 300.0, 1800.0


class WorkerLimits(msgspec.Struct, frozen=True):
    """How long and how large a worker may get.

    `step_seconds` is for one contender's step (build and first call with its compile time, one block of calls);
    `own_seconds` for what is opbench's own work (importing torch, the definition in float64). `memory_bytes` None:
    nine tenths of what is free when the run starts. `output_bytes`: what it may write that is no message; None leaves
    that to `Child`.
    """

    step_seconds: float = STEP_SECONDS
    own_seconds: float = OWN_SECONDS
    memory_bytes: int | None = None
    output_bytes: int | None = None


class Fault(NamedTuple):
    """How a worker was lost: on which contender (its position; None: on nobody's call), and what that is called.

    `foreign`: it was killed from outside (see `Death`), so that one time is no evidence against the contender.
    """

    contender: int | None
    outcome: Outcome
    message: str
    foreign: bool = False


class WorkerWatch:
    """One assignment: the worker that has it, its time and its memory."""

    def __init__(self, child: Child[Message], heartbeat: Heartbeat, limits: WorkerLimits) -> None:
        self.child, self.heartbeat, self.limits = child, heartbeat, limits
        self.pid: int | None = None
        self.silent = Limit(time.monotonic())
        self.last = _NOTHING
        self.killed: Death | None = None

    def begin(self, pid: int, now: float) -> None:
        """The worker has taken the assignment."""
        self.pid = pid
        self.silent.heard(now)

    def look(self, now: float) -> bool:
        """Looks at time and memory; False to give up on a fork server that begins nothing."""
        if self.pid is None:
            return not self.silent.reached(self.limits.own_seconds, now)
        last = self.heartbeat.last()
        if last.pid == self.pid and last != self.last:
            self.last = last
            self.silent.heard(now)
        if self.killed is not None:
            if self.silent.reached(KILL_SECONDS, now):
                self.child.stop()  # the fork server doesn't answer either
            return True
        nobody = self.last.position is None and self.last.step != CaseStep.IMPORT
        own = nobody or self.last.step in (CaseStep.DEFINITION, CaseStep.PREDICT)
        limit = self.limits.own_seconds if own else self.limits.step_seconds
        silent = self.silent.reached(limit, now)
        death = self.child.excess(self.pid) or (hung(limit, self.silent.why) if silent else None)
        if death is not None:
            self.kill(death, now)
        return True

    def kill(self, death: Death, now: float) -> None:
        """Ends the worker; the fork server then says that it has ended."""
        assert self.pid is not None
        self.killed = self.killed or death
        self.silent.heard(now)
        end_group(self.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)

    def fault(self, death: Death) -> Fault:
        """The worker's end, by what it was doing and by who ended it."""
        last = self.heartbeat.last()
        if last.pid != self.pid:  # it died before its first step
            last = _NOTHING
        step = CaseStep(last.step) if last.step in list(CaseStep) else CaseStep.IDLE
        death = self.killed or death
        return Fault(last.position, death.outcome, f"{death.message} {step.during}", death.foreign)
