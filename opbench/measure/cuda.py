"""CUDA timing: device events, cold (L2 flushed outside the timed span) and hot (graph replay), as two methods.

What the methods ask of the device is `CudaDevice`; tests put a simulated one in its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

from opbench.measure.throttle import ThrottleGuard

Call = Callable[[], object]

# Twice the largest L2 of today's devices (B200: 126 MB): writing it leaves nothing of the inputs behind.
FLUSH_BYTES = 256 << 20
WARM_UP_SECONDS = 0.2
# Of a contender on a device that the one before it has kept busy: its own first calls, not the clocks'.
WARMED_SECONDS = 0.02


class Event(Protocol):
    """A point on the device's own time line."""

    def record(self) -> None:
        """Enqueues it."""
        ...

    def synchronize(self) -> None:
        """Waits until the device has passed it."""
        ...

    def elapsed_time(self, end: Any, /) -> float:
        """Milliseconds from this event to `end`, another of the same device."""
        ...


class CudaDevice(Protocol):
    """What timing needs of a device."""

    def event(self) -> Event:
        """A new event that can be timed."""
        ...

    def flush(self) -> None:
        """Enqueues a write of FLUSH_BYTES, which leaves nothing else in the L2."""
        ...

    def synchronize(self) -> None:
        """Waits until everything enqueued is done."""
        ...

    def capture(self, call: Call) -> Call:
        """Captures the call into a graph; the result replays it."""
        ...

    def now(self) -> float:
        """Seconds on the host's clock."""
        ...


class TorchDevice:
    """The current CUDA device through torch. Holds FLUSH_BYTES of its memory."""

    def __init__(self) -> None:
        self._buffer = torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")

    def event(self) -> Event:
        """A new event that can be timed."""
        return torch.cuda.Event(enable_timing=True)

    def flush(self) -> None:
        """Overwrites the L2."""
        self._buffer.zero_()

    def synchronize(self) -> None:
        """Waits for the device."""
        torch.cuda.synchronize()

    def capture(self, call: Call) -> Call:
        """Captures the call, after the warm-up on a side stream that capturing demands."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        # What the calls before left in the allocator's cache can't be had while a graph is captured: it takes its own.
        torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        replay: Call = graph.replay
        return replay

    def now(self) -> float:
        """Seconds on the host's clock."""
        return time.perf_counter()


class WarmUp:
    """Keeps a device busy with a call until its clock stands still, or for a moment where nobody can read it.

    Once: contenders follow each other within milliseconds, in which no clock falls.
    """

    def __init__(self, device: CudaDevice, guard: ThrottleGuard | None) -> None:
        self._device, self._guard = device, guard
        self._warm = False

    def __call__(self, call: Call) -> None:
        """Calls for a while."""

        def once() -> None:
            call()
            self._device.synchronize()

        deadline = self._device.now() + (WARMED_SECONDS if self._warm else WARM_UP_SECONDS)
        while self._device.now() < deadline:
            once()
        if self._guard is not None and not self._warm:
            self._guard.settle(once)
        self._warm = True


class ColdEvents:
    """Each call between its own pair of events, after the L2 was overwritten outside the timed span.

    Nothing synchronises inside the span: all calls of a block are enqueued, then waited for once.
    """

    method = "cuda-events-cold"

    def __init__(self, device: CudaDevice, guard: ThrottleGuard | None = None) -> None:
        self._device = device
        self._warm_up = WarmUp(device, guard)

    def prepare(self, call: Call) -> None:
        """Calls until the clocks have settled."""
        self._warm_up(call)

    def sample(self, call: Call, calls: int) -> float:
        """Seconds that `calls` calls took on the device, together."""
        spans = [(self._device.event(), self._device.event()) for _ in range(calls)]
        for begin, end in spans:
            self._device.flush()
            begin.record()
            call()
            end.record()
        self._device.synchronize()
        return float(sum(begin.elapsed_time(end) for begin, end in spans)) / 1e3

    def now(self) -> float:
        """Seconds on the clock that budgets are kept by."""
        return self._device.now()


class HotGraph:
    """Replays of a captured graph between two events: no launch gaps, caches warm.

    The graph is captured once per call object, outside any timed span. A call that can't be captured raises: the hot
    method is then missing for its case, never replaced by another.
    """

    method = "cuda-graph-hot"

    def __init__(self, device: CudaDevice, guard: ThrottleGuard | None = None) -> None:
        self._device = device
        self._warm_up = WarmUp(device, guard)
        self._replays: dict[Call, Call] = {}

    def prepare(self, call: Call) -> None:
        """Captures the call into a graph, and replays that until the clocks have settled."""
        replay = self._device.capture(call)
        self._warm_up(replay)
        self._replays[call] = replay

    def sample(self, call: Call, calls: int) -> float:
        """Seconds that `calls` replays took on the device, together."""
        replay = self._replays[call]
        begin, end = self._device.event(), self._device.event()
        begin.record()
        for _ in range(calls):
            replay()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    def now(self) -> float:
        """Seconds on the clock that budgets are kept by."""
        return self._device.now()
