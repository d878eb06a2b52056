"""The least time that a machine's yardsticks allow a case: the slower of moving its bytes and multiplying its MACs."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence

import msgspec

from opbench.schema import Case, Counts, Device, DType, Latency, Run, Yardstick
from opbench.statistics.ratios import interval, usable_samples

# Backward reads the output's gradient and writes one of every input and parameter: at least as much as forward moves.
TRAINING_TRAFFIC = 2
# How many times faster than its limit a latency must be for the limit not to be what is wrong.
IMPLAUSIBLE_BELOW = 2
# What is said beside a figure that exceeds its limit: a limit that is exceeded was none.
TOO_LOW = "limit too low"


class Roofline(msgspec.Struct, frozen=True):
    """`seconds` is the larger of bytes / `copy_rate` and MACs / `matmul_rate`; `low` and `high` bound it.

    The bounds come from the 95 % interval of the median of the yardstick's samples; `least` is by the fastest of them.
    """

    bytes: int
    macs: int
    copy_rate: float
    matmul_rate: float
    seconds: float
    low: float
    high: float
    least: float


def roofline(yardsticks: Sequence[Yardstick], case: Case, counts: Counts | None) -> Roofline | None:
    """The limit of one case on a machine; None where it moves nothing or a yardstick was not measured.

    Bytes that the caches may hold are held to the copy within them: a document without one has the larger limit.
    """
    if counts is None or counts.min_bytes <= 0:
        return None
    traffic = counts.min_bytes * (TRAINING_TRAFFIC if case.mode == "training" else 1)
    copy_name = "copy-cached" if _fits(yardsticks, case, traffic) else "copy"
    rates = [_rates(yardsticks, name, case.device, case.dtype) for name in (copy_name, "matmul")]
    if rates[0] is None or rates[1] is None:
        return None
    least = [
        max(traffic / copy, counts.macs / matmul) for copy, matmul in zip(rates[0], rates[1], strict=True)
    ]  # at the low, the median, the high and the best rate
    return Roofline(traffic, counts.macs, rates[0][1], rates[1][1], least[1], least[2], least[0], least[3])


def _fits(yardsticks: Sequence[Yardstick], case: Case, traffic: int) -> bool:
    return any(
        found.name == "copy-cached" and found.device == case.device and traffic <= (found.fits_bytes or 0)
        for found in yardsticks
    )


def implausible(limit: Roofline | None, latency: Latency) -> str:
    """Why a latency can't be: below half of the least time. "" where it may be, or nothing is known.

    Up to twice the limit it is the limit that is at fault: yardsticks are measured, too. Beside other processes nearly
    all of a yardstick's samples may be hundreds of times too slow, so it is the fastest of them that decides.
    """
    if limit is None:
        return ""
    samples = usable_samples(latency)
    if not samples or (took := statistics.median(samples)) >= limit.least / IMPLAUSIBLE_BELOW:
        return ""
    return (
        f"{latency.method}: {took:.3g} s a call, where this machine needs {limit.least:.3g} s to move its "
        f"{limit.bytes} bytes or multiply its {limit.macs} MACs: it can't have computed them"
    )


def over_least_time(limit: Roofline | None, latency: Latency | None) -> tuple[float, float, float] | str:
    """(value, low, high) of a latency as a multiple of the machine's own least time; or why there is none.

    Both medians have an interval: from the low end of one and the high end of the other, so it is a wide one.
    """
    if limit is None:
        return "no yardstick"
    samples = usable_samples(latency) if latency else []
    if not samples:
        return "not timed"
    low, middle, high = interval(samples) if len(samples) > 1 else (samples[0],) * 3
    return middle / limit.seconds, low / limit.high, high / limit.low


def yardstick(run: Run, name: str, device: Device, dtype: DType) -> float | None:
    """The median rate of one yardstick; None where the run did not measure it."""
    found = _rates(run.yardsticks, name, device, dtype)
    return found[1] if found else None


def usable(found: Yardstick) -> list[float]:
    """The samples that are a rate."""
    return [sample for sample in found.samples if 0 < sample < math.inf]


class _Same:
    """A yardstick by identity: of a fleet it has thousands of samples, and every case of a run asks for it."""

    __slots__ = ("one",)

    def __init__(self, one: Yardstick) -> None:
        self.one = one

    def __hash__(self) -> int:
        return id(self.one)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.one is other.one


@functools.lru_cache(maxsize=256)
def _rates_of(found: _Same) -> tuple[float, float, float, float] | None:
    """(low, median, high, best) of one yardstick; None where no sample is a rate."""
    samples = usable(found.one)
    if len(samples) == 1:
        return samples[0], samples[0], samples[0], samples[0]
    if not samples:
        return None
    low, _, high = interval(samples)
    return low, statistics.median(samples), high, max(samples)


def _rates(
    yardsticks: Sequence[Yardstick], name: str, device: Device, dtype: DType
) -> tuple[float, float, float, float] | None:
    """The same of the first of that name, device and dtype that has a rate."""
    for found in yardsticks:
        if (found.name, found.device, found.dtype) == (name, device, dtype) and (rates := _rates_of(_Same(found))):
            return rates
    return None
