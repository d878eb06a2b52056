"""Jobs shared out among several children of one kind."""

from __future__ import annotations

import concurrent.futures
import queue
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

from opbench.process.child import MEMORY_SHARE, Child
from opbench.process.death import Death
from opbench.process.memory import free_bytes

M = TypeVar("M")


class ChildLostError(Exception):
    """A child died in the middle of a job; the message says how."""


class Pool(Generic[M]):
    """`count` children, each with one job at a time for `seconds` at most; leaving the pool ends all of them at once.

    `memory_bytes` None: an equal share of nine tenths of what is free now.
    """

    def __init__(
        self, arguments: Sequence[str], answers: Any, count: int, *, seconds: float, memory_bytes: int | None = None
    ) -> None:
        share = memory_bytes or int(MEMORY_SHARE * free_bytes() / count)
        # Started by this thread and not by the ones below: a child dies with the thread that started it.
        self._children = [Child[M](arguments, answers, memory_bytes=share) for _ in range(count)]
        self._idle: queue.SimpleQueue[Child[M]] = queue.SimpleQueue()
        for child in self._children:
            self._idle.put(child)
        self._seconds = seconds
        self._threads = concurrent.futures.ThreadPoolExecutor(count)

    def __enter__(self) -> Pool[M]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for child in self._children:
            child.stop()
        self._threads.shutdown()

    def map(self, jobs: Sequence[object]) -> Iterator[M]:
        """The answers, first come, first served. Raises `ChildLostError` for the first child that is lost."""
        for done in concurrent.futures.as_completed([self._threads.submit(self._do, job) for job in jobs]):
            yield done.result()

    def _do(self, job: object) -> M:
        child = self._idle.get()
        try:
            child.send(job)
            answer = child.receive(self._seconds)
        finally:
            self._idle.put(child)  # a dead one, too: it says at once that it is dead, to jobs that nobody waits for
        if isinstance(answer, Death):
            raise ChildLostError(answer.message)
        return answer
