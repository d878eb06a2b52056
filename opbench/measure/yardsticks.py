"""Yardsticks: the most that the machine can do, timed in the same run: copies and matrix products.

A limit that is exceeded was no limit. The copy beyond the caches is larger than the last level of them; a second one
lies within, for cases whose bytes do. A matrix product is taken by the fastest route to it (half precision without
hardware for it is faster through float32) at the size that reaches the most.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch

from opbench.build import TORCH_DTYPES
from opbench.measure.system_files import line
from opbench.schema import Device, DType, Yardstick

LEAST_COPY_BYTES: dict[Device, int] = {"cpu": 64 << 20, "cuda": 1 << 30}
MOST_COPY_BYTES = 1 << 30
MATMUL_SIZES: dict[Device, tuple[int, ...]] = {"cpu": (512, 1024), "cuda": (8192,)}
# Routes are told apart at this size: half precision without hardware for it takes seconds at a larger one.
TRIED_SIZE = 192
# Enough that the interval of the median drops the odd disturbed sample on either side.
SAMPLES = 21
# A copy beyond a cache of hundreds of MiB takes a tenth of a second: of those, what fits this many seconds, as a run
# begins with them.
SECONDS_AT_MOST = 0.5
LEAST_SAMPLES = 9
BUSY_SECONDS = 0.3
# Of a core's second-level cache: source and target together, with room for what else is in it.
CACHED_SHARE = 0.5
# Where the system doesn't say: small enough for any second-level cache of today.
ASSUMED_CACHES = (256 << 10, 32 << 20)

Call = Callable[[], object]
CopyName = Literal["copy", "copy-cached"]
Copies = tuple[tuple[CopyName, tuple[float, ...], int | None], ...]


def measure_yardsticks(device: Device, dtype: DType, memory_bytes: int | None = None) -> tuple[Yardstick, ...]:
    """Copy rates (bytes read plus bytes written per second) and the matrix-product rate (MACs per second).

    `memory_bytes`: what this process may hold; the copy takes a quarter of it at most.
    """
    copies = [
        Yardstick(name, device, dtype, "bytes/second", samples, fits_bytes)
        for name, samples, fits_bytes in _copies(device, torch.get_num_threads(), memory_bytes)
    ]
    return (*copies, Yardstick("matmul", device, dtype, "macs/second", _products(device, TORCH_DTYPES[dtype])))


@functools.cache
def _copies(device: Device, threads: int, memory_bytes: int | None = None) -> Copies:
    """(name, rates, the most bytes it is the limit of): once for all dtypes, as a copy moves bytes."""
    second, last = cache_bytes()
    large = min(MOST_COPY_BYTES, max(LEAST_COPY_BYTES[device], last))
    if memory_bytes is not None and device == "cpu":
        large = min(large, memory_bytes // 8)
    found: list[tuple[CopyName, tuple[float, ...], int | None]] = [("copy", _copy_rates(large, 1, device), None)]
    if device == "cpu":
        small = int(CACHED_SHARE * second * threads) // 2
        # Many copies a sample: one of them takes microseconds.
        found.append(("copy-cached", _copy_rates(small, max(1, large // small // 8), device), last))
    return tuple(found)


def _copy_rates(size: int, repeats: int, device: Device) -> tuple[float, ...]:
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        for _ in range(repeats):
            target.copy_(source)

    moved = 2 * source.numel() * source.element_size() * repeats
    return tuple(moved / seconds for seconds in _sampled(copy, device))


def _products(device: Device, dtype: torch.dtype) -> tuple[float, ...]:
    """The rates at the size and by the route that reach the most, by the median."""
    found = []
    routes: Sequence[torch.dtype] = [dtype, torch.float32] if dtype.itemsize < 4 and device == "cpu" else [dtype]
    if len(routes) > 1:
        routes = [min(routes, key=lambda route: _tried(route, device))]
    for size in MATMUL_SIZES[device]:
        multiply = _product(size, routes[0], device)
        if device == "cuda":
            _busy(multiply)
        found.append(tuple(size**3 / seconds for seconds in _sampled(multiply, device)))
    return max(found, key=lambda rates: sorted(rates)[len(rates) // 2])


def _tried(dtype: torch.dtype, device: Device) -> float:
    multiply = _product(TRIED_SIZE, dtype, device)
    return min(_seconds(multiply, device) for _ in range(4))


def _product(size: int, dtype: torch.dtype, device: Device) -> Call:
    left = torch.rand(size, size, device=device).to(dtype)
    right = torch.rand(size, size, device=device).to(dtype)
    product = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=product)


def cache_bytes(system: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> tuple[int, int]:
    """Bytes of a core's second-level cache and of the last-level cache, as Linux tells them."""
    sizes: dict[int, int] = {}
    for index in sorted(system.glob("index*")):
        level, kind, size = (line(index / name) for name in ("level", "type", "size"))
        told = re.fullmatch(r"(\d+)([KMG]?)", size)
        if level.isdigit() and kind in ("Unified", "Data") and told:
            sizes[int(level)] = int(told[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[told[2]]
    second = sizes.get(2, ASSUMED_CACHES[0])
    return second, max([ASSUMED_CACHES[1] if not sizes else 0, *sizes.values()])


def _busy(call: Call) -> None:
    """An idle GPU takes a while to raise its clocks: the limits are those of one that works."""
    deadline = time.perf_counter() + BUSY_SECONDS
    while time.perf_counter() < deadline:
        call()
        torch.cuda.synchronize()


def _sampled(call: Call, device: Device) -> list[float]:
    """Seconds of calls, the first of them left out: it touches memory for the first time."""
    _seconds(call, device)
    found: list[float] = []
    while len(found) < SAMPLES and (len(found) < LEAST_SAMPLES or sum(found) < SECONDS_AT_MOST):
        found.append(_seconds(call, device))
    return found


def _seconds(call: Call, device: Device) -> float:
    if device == "cuda":
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
