"""CUDA timing: device events, cold (L2 flushed outside the timed span) and hot (graph replay), as two methods."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

Call = Callable[[], object]

# Twice the largest L2 of today's devices (B200: 126 MB): writing it leaves nothing of the inputs behind.
FLUSH_BYTES = 256 << 20
WARM_UP_SECONDS = 0.2


def warm_up(call: Call) -> None:
    """Keeps the device busy with the call for a moment, so that clocks rise before the first sample."""
    deadline = time.perf_counter() + WARM_UP_SECONDS
    while time.perf_counter() < deadline:
        call()
        torch.cuda.synchronize()


class ColdEvents:
    """Each call between its own pair of events, after the L2 was overwritten outside the timed span.

    Nothing synchronises inside the span: all calls of a block are enqueued, then waited for once.
    """

    method = "cuda-events-cold"

    def __init__(self) -> None:
        self._flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")

    def prepare(self, call: Call) -> None:
        """Calls until the clocks have had time to settle."""
        warm_up(call)

    def sample(self, call: Call, calls: int) -> float:
        """Seconds that `calls` calls took on the device, together."""
        spans = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(calls)]
        for begin, end in spans:
            self._flush.zero_()
            begin.record()
            call()
            end.record()
        torch.cuda.synchronize()
        return float(sum(begin.elapsed_time(end) for begin, end in spans)) / 1e3

    def now(self) -> float:
        """Seconds on the clock that budgets are kept by."""
        return time.perf_counter()


class HotGraph:
    """Replays of a captured graph between two events: no launch gaps, caches warm.

    The graph is captured once per call object, outside any timed span. A call that can't be captured raises: the hot
    method is then missing for its case, never replaced by another.
    """

    method = "cuda-graph-hot"

    def __init__(self) -> None:
        self._graphs: dict[Call, torch.cuda.CUDAGraph] = {}

    def prepare(self, call: Call) -> None:
        """Captures the call into a graph, after the warm-up on a side stream that capturing demands."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        self._graphs[call] = graph

    def sample(self, call: Call, calls: int) -> float:
        """Seconds that `calls` replays took on the device, together."""
        graph = self._graphs[call]
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            graph.replay()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    def now(self) -> float:
        """Seconds on the clock that budgets are kept by."""
        return time.perf_counter()
