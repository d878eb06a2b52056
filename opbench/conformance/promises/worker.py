"""The process in which a module is constructed and tried: `python -m opbench.conformance.promises.worker`.

It takes one job and answers with messages. A call is announced before it is made, because it may be the last thing
that this process does.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Sequence

import torch

from opbench.conformance.promises import lines
from opbench.conformance.promises.accepting import accept
from opbench.conformance.promises.constructing import built
from opbench.conformance.promises.deploying import deployed_promises
from opbench.conformance.promises.findings import (
    ModuleBuilt,
    PromiseJob,
    PromiseRequest,
    PromiseResult,
    PromiseStarted,
    PromiseStatus,
    PromisesTried,
    PromiseTried,
    ShapesAccepted,
)
from opbench.conformance.promises.fragile import FRAGILE
from opbench.conformance.promises.promise import LONGEST_SAID, Broken, OutOfTime, Promise, TargetRaised
from opbench.conformance.promises.subject import Subject
from opbench.conformance.promises.wrong import WRONG
from opbench.conformance.raised import WHAT_A_TARGET_RAISES
from opbench.conformance.target import asked_for
from opbench.errors import said
from opbench.process.channel import Channel, take_one
from opbench.relations import Tier
from opbench.schema import OpbenchError

TIERS: tuple[tuple[Tier, tuple[Promise, ...]], ...] = (("wrong", WRONG), ("fragile", FRAGILE))
FIRST = WRONG[0].name
REPEATABLE = next(promise for promise in WRONG if promise.name == "repeatable")
# torch's own words for what it can't itself: a kernel that lacks a dtype, a module whose parameters it computes.
TORCH_CANNOT = re.compile(
    r"not implemented for '|not supported on CPU|unsupported (data|scalar|d) ?type"
    r"|parametrized modules is only supported through state_dict",
    re.IGNORECASE,
)


def chosen(request: PromiseRequest) -> list[tuple[Tier, Promise]]:
    """The promises that are asked for, in order. OpbenchError for a name that is none's."""
    deployed: tuple[tuple[Tier, tuple[Promise, ...]], ...] = (("fragile", deployed_promises(request)[0]),)
    every = [(tier, promise) for tier, promises in (*TIERS, *deployed) for promise in promises]
    names = [promise.name for _, promise in every]
    asked = asked_for("promise", names, request.only, request.skip)
    return [
        (tier, promise)
        for tier, promise in every
        if promise.name in asked and not (request.forward_only and promise.needs_gradients)
    ]


def work(job: PromiseJob, out: Channel) -> None:
    """Constructs the module, announces the plan, and tries what is left of it until the time is over."""
    torch.set_num_threads(1)  # inputs are small
    warnings.simplefilter("ignore")
    todo = chosen(job.request)
    deadline = time.monotonic() + job.seconds
    subject = _prepared(job.request, todo, out, deadline)
    left = [(tier, promise) for tier, promise in todo if promise.name not in job.done]
    unsteady: bool | None = None
    for tier, promise in left:
        if promise.compares and unsteady is None:
            unsteady = _unsteady(subject)
        result, found = _result(promise, tier, subject, out, bool(unsteady))
        out.send(PromiseTried(result, tuple(found)))
    out.send(PromisesTried())


def _unsteady(subject: Subject) -> bool:
    """Whether two calls differ: then no comparison says anything else."""
    try:
        return REPEATABLE.find(subject) is not None
    except (TargetRaised, OutOfTime):
        return False


def _prepared(request: PromiseRequest, todo: Sequence[tuple[Tier, Promise]], out: Channel, deadline: float) -> Subject:
    """The module constructed, and what it accepts found out."""
    try:
        subject, constructed, channels, notes = built(request)
        notes = [*notes, *(f"not checked: {reason}" for reason in deployed_promises(request)[1])]
        out.send(ModuleBuilt(constructed, tuple(notes), tuple(promise.planned(tier) for tier, promise in todo)))
        subject.announce = lambda shape: out.send(PromiseStarted(FIRST, shape))
        subject.deadline = deadline
        notes = accept(subject, channels, request.shape)
    except OpbenchError:
        raise
    except OutOfTime as late:
        raise OpbenchError(f"target {request.target!r}: not judged: too slow; give a smaller --shape") from late
    except WHAT_A_TARGET_RAISES as error:
        # Code of the target's runs where nobody calls it: in a __getattr__, in a property.
        raise lines.not_judged(request.target, error) from error
    out.send(ShapesAccepted(tuple(tuple(subject.image(size).shape) for size in subject.sizes), tuple(notes)))
    return subject


def _result(
    promise: Promise, tier: Tier, subject: Subject, out: Channel, unsteady: bool
) -> tuple[PromiseResult, list[str]]:
    def result(status: PromiseStatus, found: Broken, begin: float) -> PromiseResult:
        return PromiseResult(
            promise=promise.name, tier=tier, statement=promise.statement, status=status, message=found.said,
            shape=found.shape, where=found.where, advice=found.advice or promise.advice if status == "broken" else "",
            seconds=time.monotonic() - begin,
        )  # fmt: skip

    begin = time.monotonic()
    if unsteady and promise.compares:
        reason = "two calls give different outputs, so that nothing can be compared"
        # What is wrong is known; this says no more than that.
        return result("unsupported", Broken(reason), begin), []
    subject.announce = lambda shape: out.send(PromiseStarted(promise.name, shape))
    subject.shape, subject.notes = None, []
    subject.announce(None)
    status: PromiseStatus = "broken"
    try:
        found = promise.find(subject)
    except TargetRaised as raised:
        found = Broken(
            f"raises in {promise.doing}: {raised}", subject.shape, lines.raised_in(raised.error, subject.files)
        )
        if TORCH_CANNOT.search(str(raised)):
            status = "unsupported"
    except OutOfTime:
        return result("not-run", Broken("the time was over; a smaller --shape takes less"), begin), []
    except WHAT_A_TARGET_RAISES as error:
        where = lines.raised_in(error, subject.files)
        if where is None:
            raise
        found = Broken(f"raises where nobody calls it: {said(error, LONGEST_SAID)}", subject.shape, where)
    return result("kept" if found is None else status, found or Broken(""), begin), subject.notes


if __name__ == "__main__":
    take_one(PromiseJob, work)
