"""The recorded worst element of each case: its inputs drawn again, its definition and bound evaluated here.

What the device computed (`got`) can't be had again without the device. Everything that it was held against can: inputs
and parameters are drawn on the CPU by the case's seed, whatever the device was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import psutil
import torch
from msgspec.structs import replace

from opbench import registry
from opbench.build import build
from opbench.contributed.checks.counts import FOREIGN, REFUSED, cost_of
from opbench.contributed.checks.form import contenders_of_files
from opbench.contributed.nouns import CheckedPart, Said, Sign, Submission, UncheckedPart, visited_first
from opbench.schema import DEFAULT_RUNTIME, Case, OpbenchError, Record, Verdict
from opbench.verify.bounds import EPS, allowed
from opbench.verify.gate import Reference, reference

# Of a bound: what float64 on another machine, in another order of summation, may differ by.
OTHER_SUMMATION = 1e-4
# A bound is a product of a few hundred roundings' moments.
OTHER_BOUND = 1e-6
# A ratio is stored as it was computed, from an error and a bound that are stored, too.
OTHER_RATIO = 1e-9
# The definition and its bound hold so many float64 of each element, in training with its gradients.
HELD_AT_ONCE = 48


def ratios(given: Submission) -> Iterator[Said]:
    """Each verdict follows from its own worst element: |got - expected| over the bound, and at most 1 where correct."""
    count = 0
    for record in given.run.records:
        for name in ("verdict", "final_verdict"):
            verdict: Verdict | None = getattr(record, name)
            if verdict is None:
                continue
            count += 1
            if verdict.correct and verdict.worst is None and verdict.judged:
                yield Sign("verdict", record.case.id, f"{name}: correct, and no element is named")
            if verdict.worst is not None and (sentence := _contradiction(verdict)):
                yield Sign("verdict", record.case.id, f"{name}: {sentence}")
    yield CheckedPart("verdicts by their worst element", count)


def _contradiction(verdict: Verdict) -> str:
    worst = verdict.worst
    assert worst is not None
    error = abs(worst.got - worst.expected)
    # Not a number and no finite number are infinitely far from a finite one.
    ratio = 0.0 if error == 0 else error / worst.bound if worst.bound else math.inf
    ratio = ratio if math.isfinite(worst.got) and not math.isnan(ratio) else math.inf
    if (
        not math.isclose(ratio, verdict.worst_ratio, rel_tol=OTHER_RATIO, abs_tol=1e-300)
        and ratio != verdict.worst_ratio
    ):
        return f"{verdict.worst_ratio:.9g} times the bound, and got, expected and bound give {ratio:.9g}"
    return ""


def definitions(given: Submission, *, seconds: float | None = None) -> Iterator[Said]:
    """Inputs, definition and bound at the worst element of each verdict, as long as `seconds` suffice.

    Cases of one definition follow each other: it is evaluated once for them.
    """
    begun, checked = time.monotonic(), 0
    foreign = contenders_of_files(given.run)
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in given.run.records:
        if record.verdict is None or record.verdict.worst is None:
            continue
        if record.case.id in foreign:
            yield UncheckedPart("definition and bound", FOREIGN)
            continue
        case = _on_the_cpu(record.case)
        groups.setdefault(
            (case.panel_id, case.operator, *case.variant, repr(case.dims), repr(case.settings)), []
        ).append(record)
    for records in groups.values():
        if seconds is not None and time.monotonic() - begun > seconds:
            yield UncheckedPart("definition and bound", f"--within {seconds:g} s had passed", len(records))
            continue
        found = _evaluated(records[0].case)
        if isinstance(found, str):
            yield UncheckedPart("definition and bound", found, len(records))
            continue
        for record in records:
            checked += 1
            yield from _held(record, found, given)
    if checked:
        yield CheckedPart("definition and bound at the worst element", checked)
        yield UncheckedPart("what the device computed there (`got`)", "only the device has it", checked)


def _on_the_cpu(case: Case) -> Case:
    """The same draw and definition; neither depends on what executes it."""
    operator = registry.operator(case.task, case.operator)
    plain = next(iter(operator.implementations))
    return replace(case, device="cpu", implementation=plain, runtime=DEFAULT_RUNTIME, across_runtimes=False)


def _evaluated(case: Case) -> Reference | str:
    cost = cost_of(case)
    if isinstance(cost, str):
        return f"can't be evaluated here: {cost}"
    needed, free = HELD_AT_ONCE * 8 * cost.elements, psutil.virtual_memory().available
    if needed > free:
        return f"its float64 takes {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free here"
    try:
        with torch.random.fork_rng(devices=[]):
            return reference(build(_on_the_cpu(case)))
    except (*REFUSED, MemoryError, NotImplementedError, OpbenchError) as error:
        return f"can't be evaluated here: {(str(error).splitlines() or [type(error).__name__])[0]}"


def _held(record: Record, answer: Reference, given: Submission) -> Iterator[Said]:
    judged = sum(value.numel() for value in answer.expected.values())
    for name in ("verdict", "final_verdict"):
        verdict: Verdict | None = getattr(record, name)
        if verdict is None or verdict.worst is None or (name == "final_verdict" and record.outcome != "ok"):
            continue
        if verdict.sampled and visited_first(record):
            yield Sign("verdict", record.case.id, f"{name}: on a sample, at a visit that judges every element")
            continue
        if verdict.sampled:
            yield UncheckedPart("definition at sampled positions", "a verdict on a sample doesn't say where it lies")
            continue
        worst, where = verdict.worst, f"{name}: {verdict.worst.tensor}{list(verdict.worst.index)}"
        tensor = answer.expected.get(worst.tensor)
        if tensor is None or len(worst.index) != tensor.ndim or not _inside(worst.index, tuple(tensor.shape)):
            yield Sign("definition", record.case.id, f"{where}: there is no such element")
            continue
        if verdict.correct and verdict.judged != judged:
            yield Sign(
                "definition", record.case.id, f"{name}: {verdict.judged:,} elements judged, and there are {judged:,}"
            )
        expected = float(tensor[worst.index])
        bound = float(allowed(answer.terms[worst.tensor], answer.dtype).expand_as(tensor)[worst.index])
        off = abs(expected - worst.expected)
        if not off <= _summation(bound, record.case) + 1e-12 * abs(expected):
            yield Sign(
                "definition",
                record.case.id,
                f"{where}: expected {worst.expected:.9g}, and the definition gives {expected:.9g}",
            )
        elif answer.basis:
            yield UncheckedPart("bound", "drawn roundings, which are not derived")
        elif not math.isclose(bound, worst.bound, rel_tol=OTHER_BOUND, abs_tol=1e-300):
            yield Sign(
                "bound",
                record.case.id,
                f"{where}: a bound of {worst.bound:.9g}, and {bound:.9g} is derived{_version(given)}",
            )


def _summation(bound: float, case: Case) -> float:
    """What float64 of another machine may differ by: of a case in float64, as much as any contender may."""
    return bound if EPS[case.dtype] == EPS["float64"] else OTHER_SUMMATION * bound


def _inside(index: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return all(0 <= at < size for at, size in zip(index, shape, strict=True))


def _version(given: Submission) -> str:
    commit = given.run.environment.commit
    return f" by this opbench; the run names commit {commit[:12]}, which may derive another" if commit else ""
