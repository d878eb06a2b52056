"""State that the whole process shares: what a contender changes of it is put back and said, so that it moves no other.

Reading all of it takes a microsecond; it is read around every block of calls, outside the timed span.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch


class Setting(NamedTuple):
    """One piece of the state."""

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], Any]


def _set_tf32(value: bool) -> None:
    torch.backends.cudnn.allow_tf32 = value


def _set_benchmark(value: bool) -> None:
    torch.backends.cudnn.benchmark = value


SETTINGS = (
    Setting("torch's thread count", torch.get_num_threads, torch.set_num_threads),
    Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting("whether gradients are recorded", torch.is_grad_enabled, torch._C._set_grad_enabled),
    Setting("torch's deterministic mode", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    Setting(
        "the precision of float32 products", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    Setting("TF32 in convolutions", lambda: torch.backends.cudnn.allow_tf32, _set_tf32),
    Setting("cuDNN's benchmark mode", lambda: torch.backends.cudnn.benchmark, _set_benchmark),
    Setting("the garbage collector", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
)

# By what contenders are timed: as they were before any of them was loaded.
CLOCKS = {name: getattr(time, name) for name in ("perf_counter", "perf_counter_ns", "monotonic", "time")}


def replaced_clock() -> str:
    """The name of a clock that is no longer the one that was loaded, which is then put back; "" where none is."""
    for name, clock in CLOCKS.items():
        if getattr(time, name) is not clock:
            setattr(time, name, clock)
            return f"time.{name}"
    return ""


# One thread may be a library's own; one more with every call is a leak, and each slows down all that follows.
LEFT_THREADS_AT_MOST = 16


class State(NamedTuple):
    """The settings' values and the number of Python's threads at one moment."""

    values: tuple[Any, ...]
    threads: int


def state() -> State:
    """The state now."""
    return State(tuple(setting.read() for setting in SETTINGS), threading.active_count())


def restore(before: State) -> list[str]:
    """Puts back what has changed since and says what that was; threads can't be put back."""
    now = state()
    if now == before:
        return []
    changes = []
    for setting, old, new in zip(SETTINGS, before.values, now.values, strict=True):
        if old != new:
            setting.restore(old)
            changes.append(f"changed {setting.name} from {old} to {new}; put back")
    return changes


def plain() -> None:
    """What every run begins with, whatever the machine's defaults are."""
    # A float32 convolution through TF32 is a float32 result to 10 bits: no contender may trade that silently.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
