"""Runs a kernel's tasks on as many threads as torch uses.

Every thread calls the same function; the threads share numbered tasks out among themselves through a counter, so which
thread runs a task never changes a result.

The threads are those of the GNU OpenMP runtime that torch runs its own operations on. After each of these they wait
busily for some milliseconds, and threads of one's own would have to share the cores with them: between operations of
torch that took DCNv3's forward from 1.1 to 3.3 ms. They don't survive a fork, and some builds of torch have another
runtime: there, helpers take their place, Python threads that hold no lock while they compute and sleep in between. The
caller works too; helpers that get no core in time find nothing left to do, and nobody waits for them.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
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
    if threads == 1:
        function(values)
        return
    parallel = team()
    if parallel is not None:
        parallel(address, ctypes.addressof(values), threads, 0)
        return
    try:
        _helpers.call(threads - 1, function, values, scratch)
        function(values)
    except BaseException:
        values[COUNTER] = tasks  # whoever starts now finds nothing left to do
        raise
    finally:
        _wait(values)


def _wait(values: Any) -> None:
    """Until no helper is in the kernel. Ctrl-C waits too: the helpers write into tensors that end with this call."""
    interrupt = None
    while True:
        try:
            while values[ACTIVE]:
                time.sleep(0)
            break
        except KeyboardInterrupt as stopped:
            interrupt = stopped
    with _order:
        pass
    if interrupt is not None:
        raise interrupt


def tensor_arguments(*tensors: Tensor) -> list[int]:
    """What kernels are told of each tensor: where it begins and its strides in bytes."""
    arguments = []
    for t in tensors:
        size = t.element_size()
        arguments.append(t.data_ptr())
        arguments += [stride * size for stride in t.stride()]
    return arguments


_function = cache(ctypes.CFUNCTYPE(None, ctypes.c_void_p))


# Whether this is the child of a process that had threads, of OpenMP perhaps: here they don't exist, though the runtime
# believes it and would wait for them for ever.
_bereft = False
_threads_at_fork = 1


def team() -> Callable[[int, int, int, int], None] | None:
    """`GOMP_parallel(function, argument, threads, flags)` of the runtime that torch has loaded, or None."""
    return None if _bereft else _gomp_parallel()


@cache
def _gomp_parallel() -> Callable[[int, int, int, int], None] | None:
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            parallel = ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_NOLOAD).GOMP_parallel
        except (OSError, AttributeError):  # not the one in use, or no OpenMP runtime
            continue
        parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        parallel.restype = None
        found: Callable[[int, int, int, int], None] = parallel
        return found
    return None


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


def _before_fork() -> None:
    global _threads_at_fork
    try:
        _threads_at_fork = len(os.listdir("/proc/self/task"))
    except OSError:  # can't be counted here
        _threads_at_fork = 2


def _after_fork() -> None:
    """No thread survives a fork: the child gets helpers of its own when it needs them."""
    global _helpers, _order, _bereft
    _helpers = _Helpers()
    _order = threading.Lock()
    _bereft = _bereft or _threads_at_fork > 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
