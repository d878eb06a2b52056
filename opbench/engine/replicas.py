"""Visits of a panel: what each may take, and the records of several made one, samples apart by visit.

A visit is a process of its own, and the statistical unit. All panels are visited once, then all again, so that the
visits of a panel lie as far apart as the run is long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from msgspec.structs import replace

from opbench.schema import Latency, Phase, Record, Settings, StopReason

T = TypeVar("T")

LEAST_ROUNDS_OF_A_VISIT = 2
# From the best to the least satisfied.
_STOPS: tuple[StopReason, ...] = ("precision", "plateau", "budget", "throttled", "disturbed")


def one_visit(settings: Settings) -> Settings:
    """What one visit is measured with: an equal part of the panel's time and rounds.

    The visits' rounds together have the precision that was asked for when each has it times the root of their number.
    A visit has two rounds at least, however long they take: one round alone is no comparison.
    """
    visits = settings.replicas
    if visits == 1:
        return settings
    return replace(
        settings,
        precision=settings.precision * math.sqrt(visits),
        budget_seconds=settings.budget_seconds / visits,
        least_rounds=max(LEAST_ROUNDS_OF_A_VISIT, math.ceil(settings.least_rounds / visits)),
    )


def merge(records: Sequence[Record], visits: int = 1) -> Record:
    """One record of the same case at visits 0, 1, ...: the first failure, or all samples.

    `visits`: how many were asked for; those that there was no time for have a place without samples.

    Verdicts, counts and memory are the first process's. A process that lacks a method keeps its place in it with no
    samples, so that process p of a contender pairs with process p of its baseline.
    """
    first = next((record for record in records if record.outcome == "ok"), records[0])
    notes = tuple(dict.fromkeys(note for record in records for note in _notes(record)))
    told = sum(record.outcome == "ok" for record in records)
    for process, record in enumerate(records):
        # Two processes that were not disturbed tell it without the others, which keep their place without samples.
        if record.outcome != "ok" and not (record.outcome == "disturbed" and told >= 2):
            where = f"process {process + 1}: " if process else ""
            return replace(
                record,
                message=where + record.message,
                verdict=record.verdict or first.verdict,
                counts=first.counts,
                memory=record.memory or first.memory,
                notes=notes,
            )
    methods = dict.fromkeys(latency.method for record in records for latency in record.latencies)
    missing = [None] * (visits - len(records))
    latencies = tuple(_merge_latencies(method, [*records, *missing]) for method in methods)
    return replace(first, latencies=latencies, notes=notes)


def _notes(record: Record) -> tuple[str, ...]:
    lost = (f"disturbed in one of several processes: {record.message}",) if record.outcome == "disturbed" else ()
    return (*record.notes, *lost)


def _merge_latencies(method: str, records: Sequence[Record | None]) -> Latency:
    found = [
        next((had for had in record.latencies if had.method == method), None) if record else None for record in records
    ]
    present = [latency for latency in found if latency is not None]
    gauged = any(latency.sm_clock_mhz for latency in present)
    watched = any(latency.waited for latency in present)
    phase = _phase(present)
    left_out = tuple(_left_out(latency, phase) for latency in found)
    return replace(
        present[0],
        samples_seconds=tuple(latency.samples_seconds[0] if latency else () for latency in found),
        stop=max((latency.stop for latency in present), key=_STOPS.index),
        sm_clock_mhz=tuple(_first(latency.sm_clock_mhz if latency else ()) for latency in found) if gauged else (),
        temperature_celsius=tuple(_first(latency.temperature_celsius if latency else ()) for latency in found)
        if gauged
        else (),
        waited=tuple(_first(latency.waited if latency else ()) for latency in found) if watched else (),
        left_out=left_out if any(left_out) else (),
        phase=phase,
    )


def _phase(present: Sequence[Latency]) -> Phase:
    """The phase that figures are of: the clear one where two processes met it, or none met another."""
    met = [latency.phase for latency in present]
    return "clear" if met.count("clear") >= min(2, len(met)) else "shared" if "shared" in met else ""


def _left_out(latency: Latency | None, phase: Phase) -> tuple[int, ...]:
    """A process that met another phase keeps its samples, and no figure is of them."""
    if latency is None:
        return ()
    return _first(latency.left_out) if latency.phase == phase else tuple(range(len(latency.samples_seconds[0])))


def _first(per_process: tuple[tuple[T, ...], ...]) -> tuple[T, ...]:
    return per_process[0] if per_process else ()
