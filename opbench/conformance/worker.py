"""The process in which a target is loaded and tried: `python -m opbench.conformance.worker`.

It takes one job and answers with messages (`opbench.process.channel`). A call is announced before it is made, because
it may be the last thing that this process does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import os
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import torch
from torch import nn

from opbench import registry
from opbench.conformance import declared_kinds, modules
from opbench.conformance.findings import (
    BAD,
    Calling,
    Counterexample,
    Finished,
    Job,
    Message,
    Planned,
    Refusal,
    Request,
    Result,
    Started,
    Tried,
    Values,
    plain,
)
from opbench.conformance.module_kinds import DIMENSIONS, KINDS
from opbench.conformance.property import Core, Example, Property, Space
from opbench.conformance.search import Searched, search
from opbench.conformance.target import TargetName, Value, adapt, assignments, core_signature, load, parse
from opbench.errors import nearest
from opbench.process.channel import Channel, ChildBroken, ChildRefused, channel
from opbench.registry import unknown_operator
from opbench.schema import DType, OpbenchError, Operator

AT_LEAST_ONE = (*DIMENSIONS, "kernel_size", "group_size", "scale_factor", "stride", "dilation", "group")
# What people train in first: the first dtype gets the most examples.
DTYPES_IN_ORDER: tuple[DType, ...] = ("float32", "float64", "bfloat16", "float16")
# Tensors of more elements are shown by their shape alone.
READABLE = 64


@dataclass(frozen=True)
class Judged:
    """A target ready to be tried: what it is held to, the relations, and what is fixed."""

    judged_as: str
    core: Core
    properties: tuple[Property, ...]
    fixed: Mapping[str, Value]
    dtypes: tuple[DType, ...]
    gate: str | None = None
    words: Collection[str] = ()
    notes: tuple[str, ...] = ()


@dataclass
class Wire:
    """Where messages go. A call like the one before it need not be announced again."""

    out: Channel
    last: Message | None = field(default=None)

    def send(self, message: Message) -> None:
        """Writes one line, at once."""
        if isinstance(message, Calling) and message == self.last:
            return
        self.last = message
        self.out.send(msgspec.to_builtins(message, enc_hook=repr))


def main() -> None:
    """Takes one job."""
    with channel() as out:
        wire = Wire(out)
        job = out.receive(Job)
        assert job is not None
        try:
            _limit_memory(job)
            work(job, wire)
        except OpbenchError as error:
            out.send(ChildRefused(str(error)))
        except BaseException:
            out.send(ChildBroken(traceback.format_exc()))
        wire.send(Finished())
    # Whatever a target registered to run at exit, and threads it left, have no say in how this ends.
    os._exit(0)


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
    judged = prepare(request)
    properties = {prop.name: prop for prop in judged.properties}
    steps = tuple((name, dtype) for dtype in judged.dtypes for name in properties)
    statements = {name: prop.statement for name, prop in properties.items()}
    wire.send(Planned(judged.judged_as, steps, statements, judged.notes))
    todo = [step for step in steps if step not in job.done]
    deadline = time.monotonic() + job.seconds
    shut = ""
    for position, (name, dtype) in enumerate(todo):
        if shut:
            result = Result(name, statements[name], dtype, "not-run", message=shut)
            wire.send(Tried(result, (), ()))
            continue
        wire.send(Started(name, dtype))
        # What the quick ones leave is for those after them.
        share = max(0.1, (deadline - time.monotonic()) / (len(todo) - position))
        tried = _try(job, judged, properties[name], dtype, 2 * share, wire)
        wire.send(tried)
        if name == judged.gate and tried.result.status in BAD:
            shut = f"{name} has to hold first"


def prepare(request: Request) -> Judged:
    """Loads the target and says what it is held to. Raises OpbenchError for wrong usage."""
    if request.device == "cuda" and not torch.cuda.is_available():
        raise OpbenchError("--device cuda: there is no CUDA device here")
    target = parse(request.target)
    fixed = assignments("--fix", request.fix)
    given = assignments("--arg", request.arguments)
    known = sorted({*cores(), *declared_kinds.names()})
    if request.operator not in known:
        raise OpbenchError(f"--operator: {unknown_operator('operator', request.operator, known)}")
    found = load(target)
    if isinstance(found, nn.Module) or (inspect.isclass(found) and issubclass(found, nn.Module)):
        family = declared_kinds.family(request.operator)
        judged = _as_module(request, modules.module_target(target, found, family, given, fixed))
    elif request.operator not in cores() and request.operator not in KINDS:
        judged = _as_core(request, target, found, given, fixed)
    else:
        judged = _as_function(request, target, found, fixed, given)
    names = [prop.name for prop in judged.properties]
    for option, given_names in (("--only", request.only), ("--skip", request.skip)):
        for name in given_names:
            if name not in names:
                raise OpbenchError(f"{option}: {nearest('relation', name, names)}")
    asked = set(request.only or names) - set(request.skip)
    kept = tuple(
        prop for prop in judged.properties if prop.name in asked and not (request.forward_only and prop.needs_gradients)
    )
    notes = [f"{name}: left out by --skip" for name in request.skip]
    if request.forward_only:
        notes.append("gradients, and what they are needed for: left out by --forward-only")
    return dataclasses.replace(judged, properties=kept, notes=(*judged.notes, *notes))


def _as_module(request: Request, candidate: modules.ModuleTarget) -> Judged:
    return Judged(
        f"{candidate.kind.name} (module)",
        candidate,
        modules.module_properties(candidate.kind),
        candidate.fixed,
        request.dtypes or (("float32",) if request.quick else ("float32", "float64")),
        gate=modules.MATCHES,
        words=modules.names_of(candidate.kind),
    )


def cores() -> dict[str, Operator]:
    """The operators whose cores have a public signature and relations of their own."""
    return {operator.name: operator for operator in registry.every_operator() if operator.core is not None}


def _as_core(
    request: Request,
    target: TargetName,
    function: Callable[..., Any],
    given: Mapping[str, Value],
    fixed: Mapping[str, Value],
) -> Judged:
    """A function in the place of a core of an operator that has no public one: in the operator's own module."""
    if given:
        raise OpbenchError(f"--arg: {target.name} is a function, which is not constructed; settings go with --fix")
    kind = declared_kinds.kind_named(request.operator)
    for name in fixed:
        if name not in {*kind.settings, *DIMENSIONS}:
            raise OpbenchError(f"--fix: {nearest('setting', name, (*kind.settings, *DIMENSIONS))}")
    beyond = kind.beyond(fixed)
    if beyond:
        raise OpbenchError(f"target {target.text!r}: {beyond}")
    candidate = declared_kinds.InPlace(target, nn.Module, kind, {}, {}, fixed, function)
    judged = _as_module(request, candidate)
    return dataclasses.replace(judged, judged_as=f"{request.operator} (function, in its module)")


def _as_function(
    request: Request,
    target: TargetName,
    function: Callable[..., Any],
    fixed: Mapping[str, Value],
    given: Mapping[str, Value],
) -> Judged:
    if request.operator not in cores():
        like = KINDS[request.operator].module.__name__
        raise OpbenchError(
            f"--operator {request.operator} is a module: expected target {request.target!r} to be a torch.nn.Module "
            f"like {like}, got {type(function).__name__} {target.name}"
        )
    if given:
        raise OpbenchError(f"--arg: {target.name} is a function, which is not constructed; options go with --fix")
    declared = cores()[request.operator]
    assert declared.core is not None
    signature = core_signature(declared.core)
    for name, value in fixed.items():
        if name not in {*signature.options, *DIMENSIONS}:
            raise OpbenchError(f"--fix: {nearest('option', name, (*signature.options, *DIMENSIONS))}")
        if name in AT_LEAST_ONE and (not isinstance(value, int) or value < 1):
            raise OpbenchError(f"--fix {name}={value}: expected an integer of at least 1")
    adapted = adapt(target, function, signature, fixed)
    return Judged(
        f"{request.operator} (function)",
        adapted.function,
        _named(request.properties or declared.relations),
        {**fixed, **adapted.fixed},
        request.dtypes or (("float32",) if request.quick else DTYPES_IN_ORDER),
        notes=adapted.notes,
    )


def _named(name: str) -> tuple[Property, ...]:
    module, _, attribute = name.partition(":")
    properties: tuple[Property, ...] = getattr(importlib.import_module(module), attribute)
    return properties


def _try(job: Job, judged: Judged, prop: Property, dtype: DType, seconds: float, wire: Wire) -> Tried:
    request, limits = job.request, job.limits
    begin = time.monotonic()
    searched = search(
        prop,
        judged.core,
        Space(dtype, request.device, judged.fixed),
        examples=limits.examples if dtype == judged.dtypes[0] else limits.further_examples,
        seed=_seed(request.seed, prop.name, dtype),
        seconds=seconds,
        shrink_seconds=limits.shrink_seconds,
        words=judged.words,
        before_call=lambda call: wire.send(Calling(_shown(call, readable=0))),
    )
    result = _result(prop, dtype, searched, time.monotonic() - begin)
    refusals = tuple(Refusal(dict(refused.options), refused.message) for refused in searched.refusals)
    return Tried(result, tuple(map(dict, searched.accepted)), refusals)


def _result(prop: Property, dtype: DType, searched: Searched, seconds: float) -> Result:
    common: dict[str, Any] = {
        "property": prop.name, "statement": prop.statement, "dtype": dtype, "examples": searched.examples,
        "seconds": seconds, "worst_ratio": searched.worst_ratio,
    }  # fmt: skip
    if searched.finding is not None:
        example = _shown(searched.finding.example, READABLE)
        return Result(**common, status="fails", message=searched.finding.message, counterexample=example)
    if searched.examples:
        return Result(**common, status="holds")
    if searched.refusals:
        return Result(**common, status="unsupported", message=searched.refusals[0].message)
    return Result(**common, status="silent", message="no such call under what is fixed")


def _seed(seed: int, name: str, dtype: str) -> int:
    """Each property has examples of its own, the same whichever others run beside it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}/{dtype}".encode()).digest()[:8], "big")


def _shown(example: Example, readable: int) -> Counterexample:
    tensors = {
        str(name): Values(
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            stride=tuple(tensor.stride()),
            values=plain(tensor.detach().double().cpu().tolist()) if tensor.numel() <= readable else None,
        )
        for name, tensor in example.tensors.items()
    }
    return Counterexample(tensors, dict(example.options))


if __name__ == "__main__":
    main()
