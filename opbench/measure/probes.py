"""Probes: three short pieces of work beside every round, for what no counter of the kernel shows.

A busy sibling hyperthread, a neighbour that takes memory bandwidth, a clock that was lowered: the kernel counts none
of them, and each slows contenders by what bounds them (seen on one core: `nearest` 1.9, a transposed convolution
1.25, a matrix product 1.2 times), so that pairs don't cancel it. Each probe is bound by one thing alone:

    integers   eight independent chains of integer instructions: what a sibling hyperthread takes
    copy       1 MiB to another place: caches and memory
    vectors    eight independent chains of vector products and sums: vector units and clock

They run on the cores that the contenders use, all at once: two vCPUs may be one core's two threads, where a loop of
integers takes twice as long while the other runs too. They run on the threads of OpenMP that torch itself uses: after a
block these wait busily for some milliseconds, and other threads would have to share the cores with them (a BLAS
library's own did, and an idle machine looked disturbed). A time is that on a core, not on the wall: waiting for a core
is what the kernel's counters show. A reading in which a core began late or had to wait is taken again.
"""

from __future__ import annotations

import ctypes
import importlib.util
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

# Each probe takes less than a tenth of a millisecond, a twentieth of the shortest block.
INTEGER_ROUNDS = 40_000
VECTOR_ROUNDS = 20_000
INTERPRETED_ROUNDS = 4_000
READS = 3
TRIES = 8
# A core whose probes took longer than this on the wall than of its own time had to wait meanwhile.
WALL_WITHIN = 1.1
COPY_BYTES = 1 << 20
LINE_BYTES = 64


class Probe(NamedTuple):
    """Seconds that each probe took in one round."""

    integers: float
    copy: float
    product: float


class Probes:
    """The three probes on `threads` cores; on one where torch's threads can't be called, or llvmlite is missing."""

    def __init__(self, threads: int = 1) -> None:
        self._once = _compiled(threads) or _interpreted()
        self.read()  # touches its memory

    def read(self) -> Probe:
        """All three now; about half a millisecond.

        Each is the fastest of `READS` on the slowest core: right after a contender's block the first finds the caches
        cold, and a core that ran wide vectors on a lower clock (seen: 1.3, 2.7 and 1.6 times as long as the third).
        Infinite where the cores never ran together, in `TRIES`: such a round is not a clear one.
        """
        found: list[Sequence[float]] = []
        for _ in range(TRIES):
            times = self._once()
            if times:
                found.append(times)
            if len(found) == READS:
                break
        return Probe(*map(min, zip(*found, strict=True))) if found else Probe(math.inf, math.inf, math.inf)


def _compiled(threads: int) -> Callable[[], Sequence[float]] | None:
    """Runs the probes' machine code on so many threads; None where it can't be compiled."""
    if importlib.util.find_spec("llvmlite") is None:
        return None
    from opbench.kernels.cpu import launch, processor

    if processor.missing() is not None:
        return None
    from opbench.measure import probe_code

    try:
        address = probe_code.address()
    except (ImportError, RuntimeError):
        return None
    team = launch.team() if threads > 1 else None
    threads = threads if team else 1
    stride = 2 * COPY_BYTES + LINE_BYTES
    places = (ctypes.c_char * (threads * stride))()
    found = (ctypes.c_int64 * (threads * probe_code.FINDINGS))()
    where = ctypes.addressof(places), stride, ctypes.addressof(found)
    values = (ctypes.c_int64 * probe_code.ARGUMENTS)(0, threads, INTEGER_ROUNDS, VECTOR_ROUNDS, COPY_BYTES, *where)
    alone = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)

    def once() -> Sequence[float]:
        values[probe_code.COME] = 0
        if team is None:
            alone(values)
        else:
            team(address, ctypes.addressof(values), threads, 0)
        columns = [found[at :: probe_code.FINDINGS] for at in range(probe_code.FINDINGS)]
        probes, wall = columns[: probe_code.PROBES], columns[probe_code.WALL]
        own = map(sum, zip(*probes, strict=True))
        waited = any(on_the_wall > WALL_WITHIN * on_core for on_the_wall, on_core in zip(wall, own, strict=True))
        if waited or not all(columns[probe_code.TOGETHER]):
            return ()
        return [max(cores) / 1e9 for cores in probes]

    once.places = places  # type: ignore[attr-defined]  # only their address is in the arguments: this keeps them alive
    return once


def _interpreted() -> Callable[[], Sequence[float]]:
    """The probes without machine code, on this thread alone."""
    import numpy as np

    source = np.ones(COPY_BYTES, np.uint8)
    target = np.empty_like(source)
    left = np.full((20, 1024), 1 / 32, np.float32)
    product = np.empty((20, 20), np.float32)

    def read() -> Sequence[float]:
        begin = time.thread_time()
        _interpreted_loop()
        first = time.thread_time()
        np.copyto(target, source)
        second = time.thread_time()
        np.einsum("ik,jk->ij", left, left, out=product, optimize=False)  # numpy's own loop: no BLAS library
        return first - begin, second - first, time.thread_time() - second

    return read


def _interpreted_loop() -> int:
    total = 0
    for number in range(INTERPRETED_ROUNDS):
        total += number & 7
    return total
