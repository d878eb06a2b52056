"""Yardsticks: what the machine itself can do, timed in the same run: a large copy and a large matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from opbench.build import TORCH_DTYPES
from opbench.schema import Device, DType, Yardstick

COPY_BYTES: dict[Device, int] = {"cpu": 64 << 20, "cuda": 1 << 30}
MATMUL_SIZE: dict[Device, int] = {"cpu": 1024, "cuda": 8192}
# Enough that the interval of the median drops the odd disturbed sample on either side.
SAMPLES = 21
BUSY_SECONDS = 0.3


def measure_yardsticks(device: Device, dtype: DType) -> tuple[Yardstick, Yardstick]:
    """Copy rate (bytes read plus bytes written per second) and matrix-product rate (MACs per second)."""
    torch_dtype = TORCH_DTYPES[dtype]
    source = torch.rand(COPY_BYTES[device] // torch_dtype.itemsize, device=device, dtype=torch_dtype)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()
    size = MATMUL_SIZE[device]
    left = torch.rand(size, size, device=device).to(torch_dtype)
    right = torch.rand(size, size, device=device).to(torch_dtype)
    product = torch.empty_like(left)
    if device == "cuda":
        _busy(lambda: torch.mm(left, right, out=product))
    # The first of each touches its memory for the first time.
    copy = [moved / _seconds(lambda: target.copy_(source), device) for _ in range(SAMPLES + 1)][1:]
    matmul = [size**3 / _seconds(lambda: torch.mm(left, right, out=product), device) for _ in range(SAMPLES + 1)][1:]
    return (
        Yardstick(name="copy", device=device, dtype=dtype, unit="bytes/second", samples=tuple(copy)),
        Yardstick(name="matmul", device=device, dtype=dtype, unit="macs/second", samples=tuple(matmul)),
    )


def _busy(call: Callable[[], object]) -> None:
    """An idle GPU takes a while to raise its clocks: the limits are those of one that works."""
    deadline = time.perf_counter() + BUSY_SECONDS
    while time.perf_counter() < deadline:
        call()
        torch.cuda.synchronize()


def _seconds(call: object, device: Device) -> float:
    assert callable(call)
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
