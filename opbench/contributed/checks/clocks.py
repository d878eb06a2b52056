"""Whether samples are what a clock can show, and add up to no more time than has passed.

Every sample is a block of calls over their number. On the CPU the block is the difference of two readings of a clock
that counts whole nanoseconds, kept as a double: it is a whole number of nanoseconds, up to what a double of the
machine's uptime resolves. On CUDA it is a float32 of milliseconds, or a sum of such. A sample that was scaled or
invented is neither, but for one in eight by chance. Who rounds what he invents isn't found by this.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from opbench.contributed.nouns import CheckedPart, Said, Sign, Submission
from opbench.engine.forgery import CLOCKS_DIFFER, SLACK_SECONDS
from opbench.schema import Latency

# What of a latency's samples must be on the clock.
SHARE_ON_THE_CLOCK = 0.9
# A double of an uptime of less than three days resolves a fifteenth of a nanosecond.
OFF_A_NANOSECOND = 0.05
# After a quarter of an hour of uptime the difference of two readings is a multiple of this.
GRID_SECONDS = 2.0**-42
OFF_THE_GRID = 0.01
# Three roundings: of the division, of the product that undoes it, of the scale.
ROUNDED = 2.0**-51
# Of the calls that a cold block sums, the shortest may be so many times shorter than their mean.
SHORTEST_CALL = 16


def ticks(given: Submission) -> Iterator[Said]:
    """Each sample is one that its clock can show."""
    count = 0
    pairs = [(record, latency) for record in given.run.records for latency in record.latencies]
    for record, latency in pairs:
        for process, samples in enumerate(latency.samples_seconds):
            shown = [_on_the_clock(latency, sample) for sample in samples if math.isfinite(sample)]
            count += len(shown)
            if shown and (on := sum(shown)) < SHARE_ON_THE_CLOCK * len(shown):
                yield Sign(
                    "clock", record.case.id,
                    f"{latency.method}, process {process + 1}: {len(shown) - on} of {len(shown)} samples are times "
                    "that its clock can't show",
                )  # fmt: skip
    yield CheckedPart("samples that their clock can show", count)


def _on_the_clock(latency: Latency, sample: float) -> bool:
    block = sample * latency.calls_per_sample
    match latency.method:
        case "cpu-wall":
            return _near(block * 1e9, OFF_A_NANOSECOND) or _near(block / GRID_SECONDS, OFF_THE_GRID)
        case "cuda-graph-hot":
            milliseconds = block * 1e3
            (held,) = struct.unpack("f", struct.pack("f", milliseconds)) if milliseconds < 1e30 else (math.inf,)
            return bool(abs(held - milliseconds) <= ROUNDED * milliseconds)
        case "cuda-events-cold":
            _, exponent = math.frexp(sample * 1e3 / SHORTEST_CALL)
            return _near(math.ldexp(block * 1e3, 24 - exponent), OFF_THE_GRID)
        case _:
            return True


def _near(value: float, off: float) -> bool:
    """Whether a value is a whole number, but for `off` and what three roundings have left of it."""
    return value > 1e15 or abs(value - round(value)) <= off + ROUNDED * value


def sums(given: Submission) -> Iterator[Said]:
    """All samples together took no longer than the run was calling, and that no longer than the run."""
    run = given.run
    total = sum(
        latency.calls_per_sample * sum(filter(math.isfinite, samples))
        for record in run.records
        for latency in record.latencies
        for samples in latency.samples_seconds
    )
    if total > CLOCKS_DIFFER * run.called_seconds + SLACK_SECONDS:
        yield Sign("clock", "$.called_seconds", f"{run.called_seconds:.4g} s, and samples come to {total:.4g} s")
    if run.called_seconds > CLOCKS_DIFFER * run.wall_seconds + SLACK_SECONDS:
        yield Sign(
            "clock", "$.called_seconds", f"{run.called_seconds:.4g} s of a run that took {run.wall_seconds:.4g} s"
        )
    for yardstick in run.yardsticks:
        usable = [sample for sample in yardstick.samples if math.isfinite(sample)]
        if len(usable) > 2 and len(set(usable)) == 1:
            yield Sign("clock", f"yardstick {yardstick.name} {yardstick.dtype}", "the same rate each time")
    yield CheckedPart("time that all samples come to", 1)
