"""The conformance check: does a person's function or module compute what its operator is defined to compute?

The target runs in a process of its own (`conformance.worker`), which is watched from here. Code that hangs, exits,
crashes or floods memory costs that process and the property it was in; the other properties go on in a new one. This
side never imports the target, nor torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opbench.conformance.findings import (
    DEPLOYED,
    DEPLOYED_SECONDS,
    FULL,
    LARGE,
    LARGE_CALL_SECONDS,
    OWN_SECONDS,
    QUICK,
    SMALL,
    Conformance,
    Counterexample,
    Limits,
    Refusal,
    Request,
    Result,
    Status,
    Unsupported,
)
from opbench.conformance.messages import (
    Calling,
    Finished,
    Job,
    Message,
    Planned,
    Returned,
    Started,
    Step,
    TargetImported,
    TargetNext,
    Tried,
)
from opbench.conformance.target import parse
from opbench.process.child import Child
from opbench.process.death import Death
from opbench.schema import DType, OpbenchError

WORKER = "opbench.conformance.worker"
# What is being done before the first relation is tried.
STARTING, IMPORTING, LOOKING = "starting the checker", "importing it", "looking for the operator in it"
OTHER_LIMIT = "--timeout sets another limit"
Progress = Callable[[int, int, str], None]
# What torch holds itself, and on a GPU its context: on top of what the target is allowed.
OWN_BYTES = 2 << 30


def check(
    request: Request,
    limits: Limits | None = None,
    progress: Progress = lambda done, of, name: None,
) -> Conformance:
    """Tries every property of the operator on the target. `progress` hears (done, of, the property to come).

    Raises OpbenchError for wrong usage, of which a target that can't be loaded or called as the operator is one kind.
    """
    parse(request.target)
    limits = limits or (QUICK if request.quick else FULL)
    log = _Log(request, limits, progress)
    begin = time.monotonic()
    faults = 0
    while not log.finished:
        left = max(1.0, limits.search_seconds + limits.size_seconds - (time.monotonic() - begin))
        with Child[Message](
            ["-m", WORKER],
            Message,
            memory_bytes=limits.memory_bytes + OWN_BYTES,
            broken="the checker failed, not the target",
        ) as child:
            child.send(Job(request, limits, left, log.done))
            fault = log.follow(child)
        if fault is None:
            continue
        faults += 1
        log.note(fault)
        if faults >= limits.faults:
            did = "a limit was reached in" if fault[0] == "not-run" else "the target has brought down"
            log.give_up(f"{did} {faults} {'process' if faults == 1 else 'processes'}")
    return log.conformance(time.monotonic() - begin)


@dataclass
class _Log:
    """What the checking processes have said so far."""

    request: Request
    limits: Limits
    progress: Progress
    plan: Planned | None = None
    current: Step | None = None
    call: Counterexample | None = None
    doing: str = STARTING
    outstanding: bool = False
    finished: bool = False
    results: list[Result] = field(default_factory=list)
    accepted: list[tuple[DType, dict[str, Any]]] = field(default_factory=list)
    refusals: list[tuple[DType, Refusal]] = field(default_factory=list)

    @property
    def done(self) -> tuple[Step, ...]:
        return tuple((result.property, result.dtype) for result in self.results)

    def follow(self, child: Child[Message]) -> tuple[Status, str] | None:
        """Takes down what a process says until it has finished (None) or is at an end (how, and in what words)."""
        self.current = self.call = None
        self.doing, self.outstanding = STARTING, False
        while True:
            limit = self._seconds()
            message = child.receive(limit)
            if isinstance(message, Death) and message.kind == "hang":
                return self._overdue(message.message, limit)
            if isinstance(message, Death):
                return "died", message.message
            if forged := self._forged(message):
                self.current = self.current or self._next()
                return "died", forged
            self.take(message)
            if self.finished:
                return None

    def _seconds(self) -> float:
        """The limit of what is going on."""
        limits = self.limits
        if self.doing == IMPORTING:
            return limits.import_seconds
        if self.doing:
            return max(OWN_SECONDS, limits.import_seconds)
        if self.current is not None and self.current[0] in DEPLOYED:
            return DEPLOYED_SECONDS
        if self.call is None or not self.outstanding:
            return max(OWN_SECONDS, limits.call_seconds)
        return max(LARGE_CALL_SECONDS, limits.call_seconds) if self.call.elements > LARGE else limits.call_seconds

    def _overdue(self, death: str, limit: float) -> tuple[Status, str]:
        """A limit was reached. Only of a small call that was outstanding does that say anything about the target."""
        if self.doing:
            return "not-run", f"{death}; {OTHER_LIMIT}"
        if self.current is not None and self.current[0] in DEPLOYED:
            return "not-run", f"not judged: {death}: taking it had not ended"
        if self.call is None or not self.outstanding:
            return "not-run", f"not judged: {death}: the definition was at work, no call of the target; {OTHER_LIMIT}"
        what = "a call, or the backward pass after it, had not ended"
        if self.call.elements <= SMALL and limit >= self.limits.hang_seconds:
            return "hangs", f"hangs: {death}: {what}; {OTHER_LIMIT}"
        return "not-run", f"not judged: {death}: {what}, of {self.call.elements:,} elements; {OTHER_LIMIT}"

    def _forged(self, message: Message) -> str:
        """Why the checker can't have sent the message just now, so that the target has; "" where it may have.

        What is tried is announced before, and its outcome comes when no call of the target is outstanding.
        """
        if not isinstance(message, Planned | Started | Tried | Finished):
            return ""
        if self.outstanding:
            return "sent an outcome out of one of its calls, which nobody has tried"
        if isinstance(message, Planned) and self.plan is not None and message.steps != self.plan.steps:
            return "sent a plan of its own"
        if isinstance(message, Tried) and message.result.status != "not-run":
            step = message.result.property, message.result.dtype
            return "" if step == self.current else "sent the outcome of what nobody has tried"
        return ""

    def _next(self) -> Step | None:
        """The first step of which no outcome is known."""
        return next((step for step in self.plan.steps if step not in self.done), None) if self.plan else None

    def take(self, message: Message) -> None:
        """One message."""
        match message:
            case TargetNext() | TargetImported():
                self.doing = IMPORTING if isinstance(message, TargetNext) else LOOKING
            case Planned():
                self.plan, self.doing = message, ""
            case Started():
                self.current, self.call, self.outstanding = (message.property, message.dtype), None, False
                self.progress(len(self.results), len(self.plan.steps) if self.plan else 0, message.property)
            case Calling():
                self.call, self.outstanding = message.call, True
            case Returned():
                self.outstanding = False
            case Tried():
                dtype = message.result.dtype
                self.results.append(message.result)
                self.accepted += [(dtype, options) for options in message.accepted]
                self.refusals += [(dtype, refusal) for refusal in message.refusals]
                self.current = self.call = None
            case Finished():
                self.give_up("its outcome was lost on the way")  # what nothing is known of, if there is any

    def note(self, fault: tuple[Status, str]) -> None:
        """Books a death on the property that was being tried; it is not tried again in other dtypes."""
        status, message = fault
        if self.plan is None or self.current is None:
            doing = self.doing or "before its first relation"
            raise OpbenchError(f"target {self.request.target!r}: not judged: {doing}: {message}")
        name, dtype = self.current
        self.results.append(self._result(name, dtype, status, message, self.call))
        ended = "a limit was reached" if status == "not-run" else status
        self._skip(lambda step: step[0] == name, f"{ended} in {dtype}")

    def give_up(self, reason: str) -> None:
        """Leaves the rest untried."""
        self._skip(lambda step: True, reason)
        self.finished = True

    def _skip(self, which: Callable[[Step], bool], reason: str) -> None:
        assert self.plan is not None
        done = set(self.done)
        for step in self.plan.steps:
            if step not in done and which(step):
                self.results.append(self._result(*step, "not-run", reason))

    def _result(
        self, name: str, dtype: DType, status: Status, message: str, call: Counterexample | None = None
    ) -> Result:
        assert self.plan is not None
        about = {"property": name, "statement": self.plan.statements[name], "tier": self.plan.tiers[name]}
        return Result(**about, dtype=dtype, status=status, message=message, counterexample=call)  # type: ignore[arg-type]

    def conformance(self, seconds: float) -> Conformance:
        """All of it."""
        assert self.plan is not None
        order = {step: position for position, step in enumerate(self.plan.steps)}
        return Conformance(
            request=self.request,
            judged_as=self.plan.judged_as,
            results=tuple(sorted(self.results, key=lambda result: order[result.property, result.dtype])),
            unsupported=unsupported(self.accepted, self.refusals),
            refused=self.refusals[0][1].message if self.refusals and not self.accepted else "",
            notes=self.plan.notes,
            seconds=seconds,
            attempts=self.plan.attempts,
        )


def unsupported(
    accepted: Sequence[tuple[DType, Mapping[str, Any]]], refusals: Sequence[tuple[DType, Refusal]]
) -> tuple[Unsupported, ...]:
    """What the refusals have in common: the option values that were never accepted, by preference those spoken of.

    A dtype in which nothing was ever accepted is such a value, named "dtype". Where every value was accepted in some
    call, it is the combination, or the shapes: then no option is named.
    """
    good_dtypes = {dtype for dtype, _ in accepted}
    good = {(name, repr(value)) for _, options in accepted for name, value in options.items()}
    groups: dict[tuple[str, ...], Unsupported] = {}
    for dtype, refusal in refusals:
        culprits: dict[str, Any] = {"dtype": dtype}
        message = refusal.message
        if dtype in good_dtypes or not good_dtypes:
            never = {name: value for name, value in refusal.options.items() if (name, repr(value)) not in good}
            culprits = {name: value for name, value in never.items() if name.split("_")[0] in message} or never
        if not culprits:
            message += f" (at {', '.join(f'{name}={value!r}' for name, value in refusal.options.items())})"
        old = groups.setdefault(tuple(culprits), Unsupported({name: [] for name in culprits}, [], message))
        for name, value in culprits.items():
            if value not in old.options[name]:
                old.options[name].append(value)
        if dtype not in old.dtypes:
            old.dtypes.append(dtype)
    return tuple(groups.values())
