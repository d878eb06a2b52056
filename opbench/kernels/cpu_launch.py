"""Runs a kernel's tasks on as many threads as torch uses.

Every thread calls the same function; the threads share numbered tasks out among themselves through a counter, so which
thread runs a task never changes a result. The caller works too: helpers that get no core in time find nothing left to
do, and nobody waits for them. Helpers are Python threads that hold no lock while they compute; they sleep in between.
(torch's own OpenMP threads start some 30 us sooner, but on a busy machine each parallel region waits for the last of
them, and they don't survive a fork.)
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

# The arguments every kernel begins with; its own follow.
COUNTER, TICKET, ACTIVE, TASKS, CHUNK, SCRATCH, SCRATCH_BYTES, FIRST = range(8)

# Multiply-adds per thread below which another thread costs more than it brings.
WORTH_A_THREAD = 1_000_000
# Chunks of tasks per thread: enough that a thread on a busy core leaves its share to the others.
CHUNKS_PER_THREAD = 8


def launch(address: int, arguments: Sequence[int], *, tasks: int, scratch_bytes: int, work: int) -> None:
    """Calls the kernel at `address` on every thread. `scratch_bytes` is per thread, `work` in multiply-adds."""
    if tasks == 0:
        return
    threads = max(1, min(torch.get_num_threads(), tasks, work // WORTH_A_THREAD))
    chunk = max(1, tasks // (threads * CHUNKS_PER_THREAD))
    stride = (scratch_bytes + 127) // 64 * 64
    scratch = torch.empty(threads * stride, dtype=torch.uint8)
    values = (ctypes.c_int64 * (FIRST + len(arguments)))(0, 0, 0, tasks, chunk, scratch.data_ptr(), stride, *arguments)
    function = _function(address)
    if threads > 1:
        _helpers.call(threads - 1, function, values, scratch)
    function(values)
    if threads > 1:
        while values[ACTIVE]:
            time.sleep(0)
        with _order:
            pass


def tensor_arguments(*tensors: Tensor) -> list[int]:
    """What kernels are told of each tensor: where it begins and its strides in bytes."""
    arguments = []
    for t in tensors:
        size = t.element_size()
        arguments.append(t.data_ptr())
        arguments += [stride * size for stride in t.stride()]
    return arguments


_function = cache(ctypes.CFUNCTYPE(None, ctypes.c_void_p))


class _Helpers:
    """Threads that wait for kernels to call."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[tuple[Callable[..., Any], Any, Tensor]] = SimpleQueue()
        self.count = 0
        self.growing = threading.Lock()

    def call(self, count: int, function: Callable[..., Any], values: Any, scratch: Tensor) -> None:
        """Asks so many threads to call the function; the arguments and the scratch memory live until they have."""
        if self.count < count:
            with self.growing:
                for number in range(self.count, count):
                    threading.Thread(target=self.work, name=f"opbench-kernel-{number}", daemon=True).start()
                    self.count += 1
        for _ in range(count):
            self.jobs.put((function, values, scratch))

    def work(self) -> None:
        while True:
            function, values, scratch = self.jobs.get()
            function(values)
            del function, values, scratch


_helpers = _Helpers()
_order = threading.Lock()  # taking a lock orders what helpers wrote before what the caller reads next


def _after_fork() -> None:
    """No thread survives a fork: the child gets helpers of its own when it needs them."""
    global _helpers, _order
    _helpers = _Helpers()
    _order = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
