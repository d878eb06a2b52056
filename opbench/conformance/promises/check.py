"""Watches the process in which a module is tried. It never imports the target, nor torch.

A module that hangs, crashes or floods memory costs that process and the promise that it was held to; the others go on
in a new one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from opbench.conformance.findings import DEPLOYED, DEPLOYED_SECONDS, SMALL
from opbench.conformance.promises.findings import (
    ModuleBuilt,
    Patience,
    PlannedPromise,
    PromiseJob,
    PromiseMessage,
    PromiseRequest,
    PromiseResult,
    Promises,
    PromiseStarted,
    PromiseStatus,
    PromisesTried,
    PromiseTried,
    Shape,
    ShapesAccepted,
)
from opbench.conformance.target import parse
from opbench.process.child import Child
from opbench.process.death import Death
from opbench.schema import OpbenchError

OTHER_LIMIT = "--timeout sets another, a smaller --shape takes less"
PROMISES_WORKER = "opbench.conformance.promises.worker"
PromiseProgress = Callable[[int, int, str], None]
DIMENSIONS = ("N", "C", "H", "W")


def check_promises(
    request: PromiseRequest,
    patience: Patience | None = None,
    progress: PromiseProgress = lambda done, of, name: None,
) -> Promises:
    """Tries what every module promises on the target. `progress` hears (done, of, the promise to come).

    Raises OpbenchError for wrong usage, and for a module that can't be judged: it can't be constructed, or refuses
    every input.
    """
    parse(request.target)
    log = _Followed(request, patience or Patience(), progress)
    begin = time.monotonic()
    for faults in range(1, log.patience.faults + 1):
        left = max(1.0, log.patience.trying - (time.monotonic() - begin))
        with Child[PromiseMessage](
            ["-m", PROMISES_WORKER],
            PromiseMessage,
            memory_bytes=log.patience.memory_bytes,
            broken="the checker failed, not the target",
        ) as child:
            child.send(PromiseJob(request, left, tuple(log.results)))
            death = log.follow(child)
        if death is None:
            break
        log.note(death)
        if not log.shapes:
            log.give_up("it does not survive a plain call")
            break
        if faults == log.patience.faults:
            log.give_up(f"the target has brought down {faults} {'process' if faults == 1 else 'processes'}")
    log.give_up("its outcome was lost on the way")  # what nothing is known of, if there is any
    return log.promises(time.monotonic() - begin)


def parsed_shape(text: str) -> dict[str, int]:
    """`N=2,C=64,H=32,W=32`, or some of it. Raises OpbenchError for anything else.

    >>> parsed_shape("C=64,H=32")
    {'C': 64, 'H': 32}
    """
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in DIMENSIONS or not (value.isascii() and value.isdigit() and int(value) > 0):
            raise OpbenchError(f"--shape {text}: expected N, C, H and W as in N=2,C=64,H=32,W=32, got {part!r}")
        found[name] = int(value)
    return found


@dataclass
class _Followed:
    """What the checking processes have said so far."""

    request: PromiseRequest
    patience: Patience
    progress: PromiseProgress
    built: ModuleBuilt | None = None
    current: str = ""
    shape: Shape | None = None
    shapes: tuple[Shape, ...] = ()
    results: dict[str, PromiseResult] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def follow(self, child: Child[PromiseMessage]) -> Death | None:
        """Takes down what a process says until it has finished (None) or is at an end (how)."""
        ready = False
        self.current, self.shape = "", None
        while True:
            # No shape, no call: the module is constructed, copied or moved.
            limit = self.patience.call if ready and self.shape else self.patience.importing
            message = child.receive(DEPLOYED_SECONDS if self.current in DEPLOYED else limit)
            match message:
                case Death():
                    return message
                case ModuleBuilt():
                    self.built, ready = message, True
                    self.notes += [note for note in message.notes if note not in self.notes]
                case ShapesAccepted():
                    self.shapes = message.shapes
                    self.notes += [note for note in message.notes if note not in self.notes]
                case PromiseStarted():
                    self.current, self.shape = message.promise, message.shape
                    self.progress(len(self.results), len(self.plan), message.promise)
                case PromiseTried() if message.result.status == "kept" and message.result.promise != self.current:
                    return Death("crash", "sent the outcome of what nobody has tried")
                case PromiseTried():
                    self.results[message.result.promise] = message.result
                    self.notes += message.notes
                case PromisesTried():
                    return None

    @property
    def plan(self) -> tuple[PlannedPromise, ...]:
        """What it is held to."""
        return self.built.plan if self.built else ()

    def note(self, death: Death) -> None:
        """Books the end of a process on the promise that was being tried."""
        if self.built is None:
            raise OpbenchError(
                f"target {self.request.target!r}: not judged: importing or constructing it {_how(death)}"
            )
        planned = next((one for one in self.plan if one.name == self.current), None)
        if planned is None:  # while it was found out what it accepts, with `answers` left out
            raise OpbenchError(f"target {self.request.target!r}: not judged: a plain call {_how(death)}")
        status: PromiseStatus = "broken"
        advice, message = "run this call alone, under a debugger or faulthandler", _how(death)
        if death.kind == "hang" and not self._hangs():
            status, advice, message = "not-run", "", f"a limit was reached: {death.message}; {OTHER_LIMIT}"
        self.results[planned.name] = PromiseResult(
            planned.name, planned.tier, planned.statement, status, message, self.shape, advice=advice
        )

    def _hangs(self) -> bool:
        """Whether a call that was not heard of again says that the module hangs: what loops in Python is only slow."""
        return bool(self.shape) and math.prod(self.shape or ()) <= SMALL and self.patience.call >= self.patience.hang

    def give_up(self, reason: str) -> None:
        """Leaves the rest untried."""
        for one in self.plan:
            if one.name not in self.results:
                self.results[one.name] = PromiseResult(one.name, one.tier, one.statement, "not-run", reason)

    def promises(self, seconds: float) -> Promises:
        """All of it, in the order of the plan."""
        assert self.built is not None
        return Promises(
            request=self.request,
            constructed=self.built.constructed,
            shapes=self.shapes,
            promises=tuple(self.results[one.name] for one in self.plan),
            notes=tuple(self.notes),
            seconds=seconds,
        )


def _how(death: Death) -> str:
    """On a sentence whose subject is the module or the call."""
    if death.kind == "hang":
        return f"hangs: {death.message}"
    if death.kind == "out-of-memory":
        return f"floods memory: the process was {death.message}"
    return f"brings down the process, which {death.message}" if death.kind == "crash" else f"was {death.message}"
