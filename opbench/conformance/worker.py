"""The process in which a target is loaded and tried: `python -m opbench.conformance.worker`.

It takes one job and answers with messages (`opbench.process.channel`). A call is announced before it is made, because
it may be the last thing that this process does.
"""

from __future__ import annotations

import dataclasses
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec
import torch
from hypothesis.configuration import set_hypothesis_home_dir

from opbench.conformance.deployed import DEPLOYED_EXAMPLES
from opbench.conformance.findings import BAD, DEPLOYED, Refusal, Request, Result
from opbench.conformance.judged import Judged
from opbench.conformance.judging import prepare
from opbench.conformance.messages import (
    Calling,
    Finished,
    Job,
    Message,
    Planned,
    Returned,
    Started,
    TargetImported,
    TargetNext,
    Tried,
)
from opbench.conformance.promises.lines import not_judged
from opbench.conformance.raised import WHAT_A_TARGET_RAISES, raises_on
from opbench.conformance.search import Searched, search
from opbench.conformance.shown import counterexample
from opbench.conformance.walking import WalkExtent, walk
from opbench.process.channel import Channel, take_one
from opbench.relations import Relation, Space
from opbench.schema import DType, OpbenchError
from opbench.seeds import seed_of

# With --first, what is tried before sizes are.
FOREMOST = ("state-dict", "definition", "definition-gradients")
# Their part of the time, in shares; the others' is 2, as most need less than one.
WEIGHTY = 6
# Once so many relations found that a dtype raises, the others need not.
REFUSED = 3
# So many failures have the whole time that shrinking may take.
SHRUNK = 6
STOPPED = "stopped at the first failure (--first)"
# Of the time for sizes, what the first of several dtypes has; the others have equal parts of the rest.
FIRST_DTYPE = 0.6


@dataclass
class Wire:
    """Where messages go. A call like the one before it need not be announced again."""

    out: Channel
    last: Message | None = field(default=None)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, message: Message) -> None:
        """Writes one line, at once; a relation may call the target from several threads."""
        with self.lock:
            if isinstance(message, Calling) and message == self.last:
                return
            self.last = message
            self.out.send(msgspec.to_builtins(message, enc_hook=repr))


def carry_out(job: Job, out: Channel) -> None:
    """The whole job."""
    # Hypothesis notes the constants of the code it finds; not in the folder that a user happens to be in.
    with tempfile.TemporaryDirectory(prefix="opbench-") as notes:
        set_hypothesis_home_dir(notes)
        _limit_memory(job)
        wire = Wire(out)
        work(job, wire)
        wire.send(Finished())


def _limit_memory(job: Job) -> None:
    """Limits the address space above what is in use now. CUDA reserves far more than it uses, so not there."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        return
    if job.request.device == "cpu":
        limit = used + job.limits.memory_bytes
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def work(job: Job, wire: Wire) -> None:
    """Prepares the target, announces the plan, and tries what is left of it."""
    request = job.request
    torch.set_num_threads(1)  # examples are small
    wire.send(TargetNext())
    judged = _prepared(request, wire)
    properties = {prop.name: prop for prop in judged.properties}
    steps = tuple((name, dtype) for dtype in judged.dtypes for name in properties if name not in DEPLOYED)
    if request.first:  # sizes find soonest what the definition's own examples don't
        steps = tuple(
            sorted(steps, key=lambda step: properties[step[0]].sizes is None and _plain(step[0]) not in FOREMOST)
        )
    steps += tuple((name, judged.dtypes[0]) for name in properties if name in DEPLOYED)  # they take minutes
    statements = {name: prop.statement for name, prop in properties.items()}
    tiers = {name: prop.tier for name, prop in properties.items()}
    wire.send(Planned(judged.judged_as, steps, statements, tiers, judged.notes, judged.attempts))
    todo = [step for step in steps if step not in job.done]
    reserved = {step: _for_sizes(job, judged, step[1]) for step in todo if properties[step[0]].sizes is not None}
    walks = any(prop.sizes is not None for prop in properties.values())
    _warm_up(judged)
    deadline = time.monotonic() + job.seconds - (0.0 if walks else job.limits.size_seconds)
    shut, failures = "", 0
    refusing = Counter[DType]()
    for position, (name, dtype) in enumerate(todo):
        reason = shut or (raises_on(dtype) if refusing[dtype] >= REFUSED else "")
        if reason:
            result = Result(name, statements[name], dtype, "not-run", message=reason, tier=tiers[name])
            wire.send(Tried(result, (), ()))
            continue
        wire.send(Started(name, dtype))
        rest = todo[position:]
        if (name, dtype) in reserved:
            seconds = reserved[name, dtype]
        else:
            # What the quick ones leave is for those after them.
            left = deadline - time.monotonic() - sum(reserved.get(step, 0.0) for step in rest)
            share = left / sum(step not in reserved for step in rest)
            seconds = (WEIGHTY if _plain(name) in FOREMOST else 2) * max(0.1, share)
        # Of what fails everywhere a few are enough to be made small.
        shrink_seconds = job.limits.shrink_seconds / (1 if failures < SHRUNK else SHRUNK)
        tried = _try(job, judged, properties[name], dtype, seconds, shrink_seconds, wire)
        failures += tried.result.status in BAD
        refusing[dtype] += tried.result.cause == raises_on(dtype) and not tried.result.examples
        wire.send(tried)
        if tried.result.status in BAD:
            if name == judged.gate and tried.result.tier == "wrong":
                shut = f"{name} has to hold first"
            elif request.first and (request.strict or tried.result.tier == "wrong"):
                shut = STOPPED


def _prepared(request: Request, wire: Wire) -> Judged:
    """What will be tried. Code of the target's runs where nobody calls it, in a property, and may raise anything."""
    try:
        return prepare(request, lambda: wire.send(TargetImported()))
    except OpbenchError:
        raise
    except WHAT_A_TARGET_RAISES as error:
        raise not_judged(request.target, error) from error


def _plain(name: str) -> str:
    """What a relation is called of the first core: `definition` for `definition@2`."""
    return name.partition("@")[0]


def _warm_up(judged: Judged) -> None:
    """Draws an example for nothing, so that what is done for the first time is not of the first relation's time."""
    if judged.properties:
        idle = dataclasses.replace(judged.properties[0], check=lambda core, example: None)
        held = judged.held_to(idle.name)
        search(idle, held.core, Space(judged.dtypes[0], "cpu", held.fixed), examples=1, seed=0)


def _for_sizes(job: Job, judged: Judged, dtype: DType) -> float:
    """The seconds that a walk through the sizes of one core has in this dtype."""
    first, *others = judged.dtypes
    seconds = job.limits.size_seconds / sum(relation.sizes is not None for relation in judged.properties)
    if not others:
        return seconds
    return seconds * (FIRST_DTYPE if dtype == first else (1 - FIRST_DTYPE) / len(others))


def _try(
    job: Job, judged: Judged, prop: Relation, dtype: DType, seconds: float, shrink_seconds: float, wire: Wire
) -> Tried:
    request, limits = job.request, job.limits
    begin = time.monotonic()
    first = dtype == judged.dtypes[0]
    common: dict[str, Any] = {
        "seed": _seed(request.seed, prop.name, dtype), "seconds": seconds, "shrink_seconds": shrink_seconds,
        "words": judged.words, "before_call": lambda call: wire.send(Calling(counterexample(call, readable=0))),
        "after_call": lambda: wire.send(Returned()),
    }  # fmt: skip
    held = judged.held_to(prop.name)
    space = Space(dtype, request.device, held.fixed)
    if prop.sizes is not None:
        extent = WalkExtent(thin=limits.thin or not first, paired=first, shape=judged.shape)
        searched = walk(prop, held.core, space, extent=extent, **common)
    else:
        examples = limits.examples if first else limits.further_examples
        if prop.name in DEPLOYED:
            examples, common["seconds"] = DEPLOYED_EXAMPLES, float("inf")
        searched = search(prop, held.core, space, examples=examples, **common)
    result = _result(prop, dtype, searched, time.monotonic() - begin)
    refusals = tuple(Refusal(dict(refused.options), refused.message) for refused in searched.refusals)
    return Tried(result, tuple(map(dict, searched.accepted)), refusals)


def _result(prop: Relation, dtype: DType, searched: Searched, seconds: float) -> Result:
    common: dict[str, Any] = {
        "property": prop.name, "statement": prop.statement, "dtype": dtype, "examples": searched.examples,
        "seconds": seconds, "worst_ratio": searched.worst_ratio, "tier": prop.tier,
        "cut": searched.cut if searched.examples else 0,
    }  # fmt: skip
    found = searched.finding
    if found is None and searched.fragile:
        common["tier"] = "fragile"
        found = searched.fragile[0]
    if found is not None:
        example = counterexample(found.example)
        return Result(**common, status="fails", message=found.message, counterexample=example, cause=found.cause)
    if searched.examples:
        return Result(**common, status="holds", message=searched.reached)
    if searched.refusals:
        return Result(**common, status="unsupported", message=searched.refusals[0].message)
    return Result(**common, status="silent", message="no such call under what is fixed")


def _seed(seed: int, name: str, dtype: str) -> int:
    """Each property has examples of its own, the same whichever others run beside it."""
    return seed_of(f"{seed}/{name}/{dtype}", bits=64)


if __name__ == "__main__":
    take_one(Job, carry_out)
