"""Which calls of a target have not ended yet, each with the backward pass through what it gave, while that runs.

Only then is silence the target's: between its calls it is the definition that takes its time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

from opbench.relations import Example


@dataclass
class Outstanding:
    """`began` hears of every call and backward pass as it begins, `ended` when none is left; any thread may call."""

    began: Callable[[Example], None]
    ended: Callable[[], None]
    _count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def during(self, call: Example) -> Iterator[None]:
        """A call, which ends with the block whatever it raises."""
        self._enter(call)
        try:
            yield
        finally:
            self._leave()

    def backward_of(self, out: object, call: Example) -> None:
        """From here on a backward pass through `out` is outstanding while it runs."""
        if not (isinstance(out, Tensor) and out.requires_grad):
            return

        def begins(gradient: Tensor) -> None:
            self._enter(call)
            # Runs when this backward pass is over, which no hook of a tensor would tell.
            torch.autograd.Variable._execution_engine.queue_callback(self._leave)

        out.register_hook(begins)

    def none_left(self) -> None:
        """Nothing is outstanding: of a backward pass that raised, nobody was told the end."""
        with self._lock:
            count, self._count = self._count, 0
        if count:
            self.ended()

    def _enter(self, call: Example) -> None:
        with self._lock:
            self._count += 1
        self.began(call)

    def _leave(self) -> None:
        with self._lock:
            was = self._count
            self._count = max(0, was - 1)
        if was == 1:
            self.ended()


_WATCHED: ContextVar[Outstanding | None] = ContextVar("watched", default=None)


@contextlib.contextmanager
def watching(outstanding: Outstanding) -> Iterator[None]:
    """What `target_runs` in the block is told to this one, and at the block's end nothing of it is left."""
    before = _WATCHED.set(outstanding)
    try:
        yield
    finally:
        _WATCHED.reset(before)
        outstanding.none_left()


@contextlib.contextmanager
def target_runs(example: Example) -> Iterator[None]:
    """The target's own code runs in the block, though nobody calls the core; nothing happens where nobody watches."""
    watched = _WATCHED.get()
    with watched.during(example) if watched is not None else contextlib.nullcontext():
        yield
