"""Several processes' records of one case made one: samples stay apart by process, the statistical unit."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from opbench.schema import Latency, Record, StopReason

# From the best to the least satisfied.
_STOPS: tuple[StopReason, ...] = ("precision", "plateau", "budget", "throttled")


def merge(records: Sequence[Record]) -> Record:
    """One record of the same case in processes 0, 1, ...: the first failure, or all samples.

    Verdicts, counts and memory are the first process's. A process that lacks a method keeps its place in it with no
    samples, so that process p of a contender pairs with process p of its baseline.
    """
    first = records[0]
    notes = tuple(dict.fromkeys(note for record in records for note in record.notes))
    for process, record in enumerate(records):
        if record.outcome != "ok":
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
    latencies = tuple(_merge_latencies(method, records) for method in methods)
    return replace(first, latencies=latencies, notes=notes)


def _merge_latencies(method: str, records: Sequence[Record]) -> Latency:
    found = [next((had for had in record.latencies if had.method == method), None) for record in records]
    present = [latency for latency in found if latency is not None]
    gauged = any(latency.sm_clock_mhz for latency in present)
    return replace(
        present[0],
        samples_seconds=tuple(latency.samples_seconds[0] if latency else () for latency in found),
        stop=max((latency.stop for latency in present), key=_STOPS.index),
        sm_clock_mhz=tuple(_first(latency.sm_clock_mhz if latency else ()) for latency in found) if gauged else (),
        temperature_celsius=tuple(_first(latency.temperature_celsius if latency else ()) for latency in found)
        if gauged
        else (),
    )


def _first(per_process: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    return per_process[0] if per_process else ()
