"""Parameters, MACs, least bytes and traffic, from the closed forms and from shapes alone: no device has its own."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import msgspec
import torch

from opbench import registry
from opbench.build import TORCH_DTYPES
from opbench.contributed.checks.form import contenders_of_files
from opbench.contributed.nouns import CheckedPart, Said, Sign, Submission, UncheckedPart, visited_first
from opbench.engine.environment import OWN_CHECKOUT, commit_here, installed_version
from opbench.errors import said
from opbench.measure.macs import contradiction
from opbench.measure.prediction import predict, predict_traffic
from opbench.schema import DEFAULT_RUNTIME, Case, Cost, Run

FOREIGN = "declared by a file of the contributor's"
# What any part of opbench raises of a case that its operator refuses; nothing is known of it then.
REFUSED = (RuntimeError, ValueError, TypeError, KeyError, IndexError, ArithmeticError, AssertionError)


def counts(given: Submission) -> Iterator[Said]:
    """What the closed forms give at each case's dimensions, and no counter that contradicts them."""
    foreign, checked = contenders_of_files(given.run), 0
    for record in given.run.records:
        if record.counts is None:
            if visited_first(record):
                yield Sign("counts", record.case.id, "timed at the first visit, and not counted there")
            continue
        if record.case.id in foreign:
            yield UncheckedPart("counts", FOREIGN)
            continue
        cost = cost_of(record.case)
        if isinstance(cost, str):
            yield Sign("counts", record.case.id, f"counted, and its operator can't have these dimensions: {cost}")
            continue
        checked += 1
        found = record.counts
        derived = {
            "params": cost.params,
            "macs": cost.macs_of(record.case.mode),
            "min_bytes": cost.elements * TORCH_DTYPES[record.case.dtype].itemsize,
        }
        for name, value in derived.items():
            if (told := getattr(found, name)) != value:
                yield Sign("counts", record.case.id, f"{name} is {told:,}, and the closed form gives {value:,}")
        if cost.derived and record.outcome != "miscounted" and (against := contradiction(found)):
            yield Sign("counts", record.case.id, against)
    if checked:
        yield CheckedPart("counts by their closed forms", checked)
        yield UncheckedPart(
            "what counters saw beside the closed form", "operations that they have no formula for", checked
        )


def cost_of(case: Case) -> Cost | str:
    """The closed form of a case, whatever executes it; or why there is none."""
    return _cost_of(msgspec.json.encode(msgspec.structs.replace(case, implementation="", device="cpu")))


@functools.lru_cache(maxsize=1024)
def _cost_of(case: bytes) -> Cost | str:
    """The closed form; or why there is none. A network counts itself by being built: once for all contenders."""
    one = msgspec.json.decode(case, type=Case)
    try:
        return registry.operator(one.task, one.operator).cost(registry.given(one))
    except REFUSED as error:
        return said(error)


def _other_code(run: Run) -> str:
    """Why an implementation may have had other operations there than it has here; "" where it can't."""
    here, there = torch.__version__.partition("+")[0], run.environment.versions.get("torch", "?").partition("+")[0]
    if here != there:
        return f"torch {there} dispatched it, and this is torch {here}"
    ours = _revision_here()
    told = run.environment
    theirs = _revision(told.commit, told.details.get("commit of", OWN_CHECKOUT), told.versions.get("opbench"))
    return "" if ours == theirs else f"opbench at {theirs} made it, and this is opbench at {ours}"


@functools.cache
def _revision_here() -> str:
    """Of this process: git is asked once."""
    commit, _, whose = commit_here()
    return _revision(commit, whose, installed_version("opbench"))


def _revision(commit: str | None, whose: str, version: str | None) -> str:
    """Which code ran: the commit of opbench's own checkout, else the version that is installed."""
    return (commit if whose.startswith(OWN_CHECKOUT) else None) or version or "an unknown revision"


def traffic(given: Submission) -> Iterator[Said]:
    """Bytes that a call asks of memory: from shapes and strides, the same on every machine with one torch."""
    other = _other_code(given.run)
    foreign, checked = contenders_of_files(given.run), 0
    for record in given.run.records:
        if record.counts is None or record.counts.traffic_bytes is None:
            continue
        if record.case.id in foreign:
            yield UncheckedPart("traffic", FOREIGN)
            continue
        made, why = _derived(record.case)
        if made == record.counts.traffic_bytes:
            checked += 1
        elif made is None:
            yield UncheckedPart("traffic", why)
        elif other:
            yield UncheckedPart("traffic", other)
        else:
            yield Sign(
                "traffic", record.case.id, f"{record.counts.traffic_bytes:,} bytes, and its operations move {made:,}"
            )
    if checked:
        yield CheckedPart("traffic by shapes", checked)


def _derived(case: Case) -> tuple[int | None, str]:
    if case.runtime != DEFAULT_RUNTIME:
        return None, f"{case.runtime} computes"
    if case.device != "cpu":
        return None, "a GPU dispatches other operations"
    try:
        with torch.random.fork_rng(devices=[]):
            return predict_traffic(case), "torch's dispatcher doesn't see what it moves"
    except Exception as error:  # an operator's code on tensors without data may raise anything; then nothing is known
        return None, f"not counted here: {type(error).__name__}"


def memory(given: Submission) -> Iterator[Said]:
    """Peak and held bytes of cases on the CPU, which the tracker finds again on tensors without data."""
    other = _other_code(given.run)
    foreign, checked = contenders_of_files(given.run), 0
    for record in given.run.records:
        if record.memory is None or record.memory.peak_bytes is None:
            continue
        if record.case.device != "cpu":
            yield UncheckedPart("memory", "what an allocator of the device's has said")
        elif record.case.id in foreign:
            yield UncheckedPart("memory", FOREIGN)
        else:
            made = predict(record.case).memory
            if made.peak_bytes is None:
                yield UncheckedPart("memory", made.note)
            elif made.peak_bytes == record.memory.peak_bytes:
                checked += 1
            elif other:
                yield UncheckedPart("memory", other)
            else:
                sentence = (
                    f"a peak of {record.memory.peak_bytes:,} bytes, and its operations come to {made.peak_bytes:,}"
                )
                yield Sign("memory", record.case.id, sentence)
    if checked:
        yield CheckedPart("peak memory by shapes", checked)
