"""Whether all figures of a run are of the device that it names: methods, allocators, clocks, and the data sheet."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping

from opbench.contributed.nouns import CheckedPart, Said, Sign, Submission, UncheckedPart
from opbench.floor.gpus import GPU, gpus
from opbench.schema import Device, DType, Record, Run, Yardstick
from opbench.statistics.ratios import usable_samples
from opbench.statistics.roofline import TRAINING_TRAFFIC, implausible, roofline, usable

METHODS: Mapping[Device, frozenset[str]] = {
    "cpu": frozenset({"cpu-wall"}),
    "cuda": frozenset({"cuda-events-cold", "cuda-graph-hot"}),
}
ALLOCATORS: Mapping[Device, str] = {"cpu": "cpu-dispatch", "cuda": "cuda-allocator"}
# A data sheet rounds its rates, and a copy of a GiB reaches nine tenths of the memory's.
ABOVE_THE_SHEET = 1.02
LEAST_OF_THE_SHEET = 0.4
# One step of the clock beyond the highest that a data sheet names.
CLOCK_STEP_MHZ = 15.0
TF32 = "tf32 in convolutions"


def device(given: Submission) -> Iterator[Said]:
    """Timing methods, memory and clocks belong to the device of their case, and that to the environment."""
    run = given.run
    for record in run.records:
        yield from _record(record, run)
    yard = {(one.device, one.dtype) for one in run.yardsticks}
    for pair in sorted({(one.case.device, one.case.dtype) for one in run.records if one.latencies} - yard):
        yield Sign("device", "$.yardsticks", f"none of {' '.join(pair)}, where cases were timed")
    if run.environment.gpu is not None:
        yield from _known_gpu(run)
    yield CheckedPart("methods and memory of the named device", len(run.records))


def _record(record: Record, run: Run) -> Iterator[Said]:
    name, of = record.case.id, record.case.device
    if of == "cuda" and run.environment.gpu is None:
        yield Sign("device", name, "of a GPU, and the environment names none")
    for latency in record.latencies:
        if latency.method not in METHODS[of]:
            yield Sign("device", name, f"timed by {latency.method}, which is no method of {of}")
        if of == "cpu" and latency.sm_clock_mhz:
            yield Sign("device", name, "the clock of a GPU beside samples of the CPU")
        if of == "cuda" and latency.waited:
            yield Sign("device", name, "waits for a core beside samples of a GPU")
    method = record.memory.method if record.memory and not record.memory.predicted else ""
    if method in ALLOCATORS.values() and method != ALLOCATORS[of]:
        yield Sign("device", name, f"memory by {method}, which is no method of {of}")


def data_sheet(run: Run) -> GPU | None:
    """That of the environment's GPU; None for one that isn't known."""
    words = re.split("[^A-Za-z0-9]+", run.environment.gpu or "")
    return next((sheet for sheet in gpus().values() if sheet.named and sheet.named in words), None)


def _known_gpu(run: Run) -> Iterator[Said]:
    sheet = data_sheet(run)
    if sheet is None:
        yield UncheckedPart("data sheet", f"none is known of {run.environment.gpu!r}")
        return
    where, said = run.environment.gpu or "", run.environment.details
    for name, right in (
        ("compute capability", [sheet.compute_capability]),
        ("multiprocessors", list(map(str, sheet.multiprocessors))),
    ):
        if name in said and said[name] not in right:
            yield Sign(
                "device", f"$.environment.details[{name!r}]", f"{said[name]}, where {where} has {' or '.join(right)}"
            )
    highest = max(
        (clock for record in run.records for one in record.latencies for row in one.sm_clock_mhz for clock in row),
        default=0.0,
    )
    if sheet.clock_mhz and highest > sheet.clock_mhz + CLOCK_STEP_MHZ:
        yield Sign(
            "device", "$.environment.gpu", f"{where} reaches {sheet.clock_mhz:g} MHz, and samples say {highest:g}"
        )
    for one in run.yardsticks:
        if one.device == "cuda":
            yield from _yardstick(one, sheet, where, said.get(TF32) == "True")
    yield CheckedPart("the device against its data sheet", 1)


def _yardstick(one: Yardstick, sheet: GPU, where: str, tf32: bool) -> Iterator[Said]:
    rates = usable(one)
    limit = sheet.bytes_per_second if one.name != "matmul" else macs_rate(sheet, one.dtype, tf32)
    if not rates or limit is None:
        return
    middle = statistics.median(rates)
    if middle > ABOVE_THE_SHEET * limit:
        yield Sign(
            "data sheet", f"yardstick {one.name} {one.dtype}", f"{middle:.3g} {one.unit}, and {where} has {limit:.3g}"
        )
    elif one.name == "copy" and middle < LEAST_OF_THE_SHEET * limit:
        yield Sign(
            "data sheet", f"yardstick {one.name} {one.dtype}",
            f"{middle:.3g} {one.unit}: less than {LEAST_OF_THE_SHEET:.0%} of the {limit:.3g} that {where} has",
        )  # fmt: skip


def macs_rate(sheet: GPU, dtype: DType, tf32: bool) -> float | None:
    """MACs per second at most. Where products of float32 may go through TF32, that of the fastest unit bounds them."""
    if dtype == "float32" and tf32:
        return max(sheet.flops_per_second.values()) / 2
    return sheet.macs_per_second(dtype)


def speed(given: Submission) -> Iterator[Said]:
    """No latency below half of what the run's own yardsticks allow, and on a known GPU none below its data sheet's."""
    run, checked = given.run, 0
    sheet, tf32 = data_sheet(run), run.environment.details.get(TF32) == "True"
    for record in run.records:
        if record.outcome != "ok" or record.counts is None:
            continue
        limit = roofline(run.yardsticks, record.case, record.counts)
        for latency in record.latencies:
            checked += 1
            if why := implausible(limit, latency):
                yield Sign("speed", record.case.id, why)
            elif sheet is not None and record.case.device == "cuda":
                least = _floor(sheet, record, latency.method, tf32)
                samples = usable_samples(latency)
                if samples and least is not None and (took := statistics.median(samples)) < least:
                    yield Sign(
                        "data sheet", record.case.id,
                        f"{latency.method}: {took:.3g} s a call, and {sheet.title} needs {least:.3g} s at least",
                    )  # fmt: skip
    if run.environment.gpu is not None and sheet is None:
        yield UncheckedPart("latencies against a data sheet", f"none is known of {run.environment.gpu!r}")
    yield CheckedPart("latencies against what the machine can do", checked)


def _floor(sheet: GPU, record: Record, method: str, tf32: bool) -> float | None:
    """The least time by the data sheet: of a hot run, which caches serve, that of the MACs alone."""
    assert record.counts is not None
    rate = macs_rate(sheet, record.case.dtype, tf32)
    by_macs = record.counts.macs / rate if rate else None
    if method != "cuda-events-cold":
        return by_macs
    moved = record.counts.min_bytes * (TRAINING_TRAFFIC if record.case.mode == "training" else 1)
    return max(moved / sheet.bytes_per_second, by_macs or 0.0)
