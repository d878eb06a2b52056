"""Probes: three short pieces of work beside every round, for what no counter of the kernel shows.

A busy sibling hyperthread, a neighbour that takes memory bandwidth, a clock that was lowered: the kernel counts none
of them, and each slows contenders by what bounds them (seen on one core: `nearest` 1.9, a transposed convolution
1.25, a matrix product 1.2 times), so that pairs don't cancel it. Each probe is bound by one thing alone:

    integers   eight independent chains of integer instructions: what a sibling hyperthread takes
    copy       1 MiB to another place: caches and memory
    product    float32 dot products, 20 x 20 of length 1,024: vector units and clock

On every core that the contenders use, at once; a probe's time is that of the slowest core. None of them calls a BLAS
library: its threads spin for a while after a call, and the contenders' would wait for them.
"""

from __future__ import annotations

import ctypes
import importlib.util
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np

# Each probe takes less than a tenth of a millisecond, a twentieth of the shortest block.
INTEGER_ROUNDS = 60_000
INTERPRETED_ROUNDS = 4_000
COPY_BYTES = 1 << 20
PRODUCT_SHAPE = (20, 1024)
CHAINS = 8
READS = 3


class Probe(NamedTuple):
    """Seconds that each probe took in one round."""

    integers: float
    copy: float
    product: float


class Probes:
    """The three probes on `threads` cores. Made before foreign code runs: it keeps threads of its own."""

    def __init__(self, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(threads - 1, "opbench-probe") if threads > 1 else None
        self._others = threads - 1
        self._integers = _integers()
        self._places = [_Place() for _ in range(threads)]
        for place in self._places:  # touches its memory, and starts the threads
            self._one(place)
        self.read()

    def read(self) -> Probe:
        """All three now; about two thirds of a millisecond.

        Each is the fastest of `READS`: right after a contender's block the first finds the caches cold, and a core
        that ran wide vectors on a lower clock (seen: 1.3, 2.7 and 1.6 times as long as the third).
        """
        return Probe(*(min(column) for column in zip(*(self._once() for _ in range(READS)), strict=True)))

    def _once(self) -> Probe:
        if self._pool is None:
            return self._one(self._places[0])
        others = [self._pool.submit(self._one, place) for place in self._places[1:]]
        own = self._one(self._places[0])
        found = [own, *(other.result() for other in others)]
        return Probe(*(max(column) for column in zip(*found, strict=True)))

    def _one(self, place: _Place) -> Probe:
        # Time on a core, not on the wall: waiting for Python's lock or for a core is no property of the machine's phase.
        begin = time.thread_time()
        self._integers()
        first = time.thread_time()
        np.copyto(place.target, place.source)
        second = time.thread_time()
        np.einsum("ik,jk->ij", place.left, place.left, out=place.product, optimize=False)
        return Probe(first - begin, second - first, time.thread_time() - second)

    def close(self) -> None:
        """Ends its threads."""
        if self._pool is not None:
            self._pool.shutdown()


class _Place:
    """What one core's probes read and write."""

    def __init__(self) -> None:
        self.source = np.ones(COPY_BYTES, np.uint8)
        self.target = np.empty_like(self.source)
        self.left = np.full(PRODUCT_SHAPE, 1 / 32, np.float32)
        self.product = np.empty((PRODUCT_SHAPE[0], PRODUCT_SHAPE[0]), np.float32)


def _integers() -> Callable[[], object]:
    """The loop of integer instructions as machine code, or interpreted where llvmlite is missing."""
    if importlib.util.find_spec("llvmlite") is None:
        return _interpreted
    try:
        address = _compiled()
    except (ImportError, RuntimeError):
        return _interpreted
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)
    return lambda: function(INTEGER_ROUNDS)


def _interpreted() -> int:
    total = 0
    for number in range(INTERPRETED_ROUNDS):
        total += number & 7
    return total


_engines: list[object] = []  # machine code lives as long as its engine


@cache
def _compiled() -> int:
    """The address of `int64 integers(int64 rounds)`.

    Compiled as written: an optimiser would find the sums' closed form.
    """
    from opbench.kernels.cpu import processor

    llvm, _, _ = processor.machine()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(opt=1, jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(_loop()), machine)
    engine.finalize_object()
    _engines.append(engine)
    address: int = engine.get_function_address("integers")
    return address


def _loop() -> str:
    """`CHAINS` sums that don't wait for each other: as many instructions a cycle as a core can do."""
    chains = range(CHAINS)
    lines = [
        "define i64 @integers(i64 %rounds) {",
        "entry:",
        "  br label %loop",
        "loop:",
        "  %i = phi i64 [0, %entry], [%next, %loop]",
        *(f"  %a{k} = phi i64 [{k + 1}, %entry], [%b{k}, %loop]" for k in chains),
        *(f"  %x{k} = xor i64 %a{k}, %i\n  %b{k} = add i64 %x{k}, {2 * k + 3}" for k in chains),
        "  %next = add i64 %i, 1",
        "  %more = icmp ult i64 %next, %rounds",
        "  br i1 %more, label %loop, label %end",
        "end:",
        "  %s0 = add i64 %b0, 0",
        *(f"  %s{k} = add i64 %s{k - 1}, %b{k}" for k in chains[1:]),
        f"  ret i64 %s{CHAINS - 1}",
        "}",
    ]
    return "\n".join(lines)
