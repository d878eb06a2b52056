"""The least time of a plan's cases on GPUs by their data sheets, and the uncached time of each implementation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import torch

from opbench import registry
from opbench.build import TORCH_DTYPES
from opbench.floor.gpus import GPU
from opbench.measure.prediction import on_meta
from opbench.measure.traffic import count_traffic
from opbench.schema import Case, Plan
from opbench.statistics.roofline import TRAINING_TRAFFIC


class Floor(msgspec.Struct, frozen=True):
    """One case on one GPU. Seconds are floors, not latencies, and `uncached_seconds` is not even a floor.

    `cold_seconds`: the larger of the least bytes at the memory rate and the MACs at the arithmetic rate. `hot_seconds`:
    the MACs alone, as caches serve a hot run. `uncached_seconds`: the implementation's traffic at the memory rate; None
    where that can't be counted, and `note` says why. None for both floors of MACs where the data sheet has no rate.
    """

    gpu: str
    panel: str
    contender: str
    least_bytes: int
    macs: int
    cold_seconds: float
    hot_seconds: float | None
    bound_by: str
    traffic_bytes: int | None
    uncached_seconds: float | None
    note: str = ""


def floors(plan: Plan, asked: Mapping[str, GPU]) -> Iterator[Floor]:
    """Of each case of the plan on each GPU, panel by panel."""
    for panel in plan.panels:
        counted = [(case, *traffic(case)) for case in panel.cases]
        for name, gpu in asked.items():
            yield from (_floor(name, gpu, case, moved, note) for case, moved, note in counted)


def traffic(case: Case) -> tuple[int | None, str]:
    """Bytes that a call asks of memory, from shapes alone; or None, and why."""
    if not registry.operator(case.task, case.operator).implementations[case.implementation].seen:
        return None, "torch's dispatcher doesn't see what it moves"
    try:
        with torch.random.fork_rng(devices=[]):
            return count_traffic(on_meta(case)), ""
    except Exception as error:  # a contender's code on tensors without data may raise anything; then nothing is known
        return None, f"not counted: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _floor(name: str, gpu: GPU, case: Case, moved: int | None, note: str) -> Floor:
    cost = registry.operator(case.task, case.operator).cost(registry.given(case))
    least = cost.elements * TORCH_DTYPES[case.dtype].itemsize
    least *= TRAINING_TRAFFIC if case.mode == "training" else 1
    macs, rate = cost.macs_of(case.mode), gpu.macs_per_second(case.dtype)
    by_bytes, by_macs = least / gpu.bytes_per_second, None if rate is None else macs / rate
    return Floor(
        gpu=name,
        panel=case.panel_id,
        contender=case.contender,
        least_bytes=least,
        macs=macs,
        cold_seconds=max(by_bytes, by_macs or 0.0),
        hot_seconds=by_macs,
        bound_by="MACs" if (by_macs or 0.0) > by_bytes else "bytes",
        traffic_bytes=moved,
        uncached_seconds=None if moved is None else moved / gpu.bytes_per_second,
        note=note or ("" if rate is not None else f"its data sheet has no rate for {case.dtype}"),
    )


def ordered(found: Sequence[Floor]) -> dict[tuple[str, str], list[Floor]]:
    """By GPU and panel, in the order they came."""
    groups: dict[tuple[str, str], list[Floor]] = {}
    for floor in found:
        groups.setdefault((floor.gpu, floor.panel), []).append(floor)
    return groups
