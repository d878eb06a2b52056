"""Throttling: SM clock and temperature beside every sample, and which samples a slowed-down GPU has spoilt.

A GPU that is too hot or asks for too much power lowers its clock, and everything timed meanwhile is slower for a
reason that is not the contender's. NVML says so itself (its throttle reasons); a clock far below the highest one seen
under load says it too, where a driver names no reason. Such samples are discarded up to a cap, then the case is
`throttled`: a missing number beats a wrong one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

# NVML's nvmlClocksEventReason* bits that mean slower than asked for. An idle GPU (bit 0), clocks set by the user
# (bit 1) and the power cap of an ordinary heavy kernel (bit 2: the clock rule judges how much it costs) do not.
REASONS: Mapping[int, str] = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
# Boost steps of today's GPUs are 15 MHz in some 2000: a tenth below the highest clock is no step, it is a slowdown.
LEAST_CLOCK_SHARE = 0.9
# A sample is worth waiting for, a GPU that never recovers is not: at most this many, or this share of all samples.
DISCARDS_AT_MOST = 8
DISCARDED_SHARE_AT_MOST = 0.5
PAUSE_SECONDS = 0.25
SETTLED_READINGS = 5
# One step of the clock up or down is as still as a boosting GPU's clock gets.
STEP_MHZ = 15.0
SETTLING_READINGS_AT_MOST = 100
SETTLING_GAP_SECONDS = 0.02


class Reading(NamedTuple):
    """What the GPU says of itself at one moment; `reasons` are NVML's bits."""

    sm_clock_mhz: float
    temperature_celsius: float
    reasons: int = 0


class GpuGauge(Protocol):
    """Where readings come from."""

    def read(self) -> Reading:
        """The GPU's state now."""
        ...


class NvmlGauge:
    """One GPU ("GPU-<uuid>") through NVML. Raises OSError or ImportError, with the reason, where it can't be read."""

    def __init__(self, uuid: str) -> None:
        import pynvml

        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            self.read()
        except pynvml.NVMLError as error:
            raise OSError(f"NVML: {error}") from error

    def read(self) -> Reading:
        """SM clock, temperature and throttle reasons, in some tens of microseconds."""
        nvml, handle = self._nvml, self._handle
        return Reading(
            float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)),
        )


class ThrottleGuard:
    """Judges each sample by the reading taken right after it, while the clock is still that of the load."""

    def __init__(self, gauge: GpuGauge, sleep: Callable[[float], None] = time.sleep) -> None:
        self._gauge = gauge
        self._sleep = sleep
        self.highest_mhz = 0.0
        self.why = ""

    def settle(self, call: Callable[[], object]) -> bool:
        """Keeps the device busy with `call` until the clock stands still; False if it never does."""
        steady, before = 0, 0.0
        for _ in range(SETTLING_READINGS_AT_MOST):
            call()
            clock = self._gauge.read().sm_clock_mhz
            self.highest_mhz = max(self.highest_mhz, clock)
            steady = steady + 1 if abs(clock - before) <= STEP_MHZ else 0
            if steady >= SETTLED_READINGS:
                return True
            before = clock
            self._sleep(SETTLING_GAP_SECONDS)
        return False

    def judge(self) -> tuple[Reading, bool]:
        """The reading now, and whether it spoils the sample before it; `why` then says what was wrong."""
        reading = self._gauge.read()
        self.highest_mhz = max(self.highest_mhz, reading.sm_clock_mhz)
        named = [name for bit, name in REASONS.items() if reading.reasons & bit]
        slow = reading.sm_clock_mhz < LEAST_CLOCK_SHARE * self.highest_mhz
        if slow:
            named.append(f"SM clock at {reading.sm_clock_mhz:.0f} MHz where {self.highest_mhz:.0f} MHz were reached")
        if named:
            self.why = f"{', '.join(named)}, {reading.temperature_celsius:.0f} degrees Celsius"
        return reading, bool(named)

    def pause(self) -> None:
        """Lets the device cool down before the next sample."""
        self._sleep(PAUSE_SECONDS)


def beyond_cap(discarded: int, samples: int) -> bool:
    """Whether so many of a contender's samples are spoilt that the rest is no measurement either."""
    return discarded > DISCARDS_AT_MOST and discarded > DISCARDED_SHARE_AT_MOST * samples
