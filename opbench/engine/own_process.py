"""A worker's hold on its own process: whether it is still itself, whose code runs in it, what has been left in it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from opbench.engine import state
from opbench.engine.fingerprint import Fingerprint
from opbench.engine.steps import STATE_LOST
from opbench.process.descendants import children, end

_PR_SET_CHILD_SUBREAPER = 36
# Threads that run, or wait for a core, each time that it is looked are at work.
LOOKS, LOOK_SECONDS = 5, 0.02
# Children's children that are ended at most.
GENERATIONS = 20


class OwnProcess:
    """Made in a worker before any foreign file is loaded. `known` is the state that every panel begins with."""

    def __init__(self, fingerprint: Fingerprint) -> None:
        self._pid = os.getpid()
        self._exit, self._getpid = os._exit, os.getpid
        self.known = state.state()
        self.fingerprint = fingerprint
        self._children = set(children())
        self._threads = _not_python_s()
        # What a contender's child leaves becomes a child of this process.
        with contextlib.suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_end_on_return)

    def replaced(self, *, all_of_it: bool) -> tuple[list[str], list[str]]:
        """The judges and the tools that had been replaced, which are themselves again (see `Fingerprint.put_back`)."""
        if self._getpid() != self._pid:  # a fork that goes on where its parent does
            self._exit(0)
        return self.fingerprint.put_back(all_of_it=all_of_it)

    def threads_beyond(self, allowed: int) -> int:
        """How many of the system's threads have been started since it was last asked, beyond those that may be."""
        now = _not_python_s()
        more, self._threads = now - self._threads, now
        return more - allowed

    def end_children(self, *, all_of_it: bool) -> int:
        """Ends the processes that were started and left running since; how many."""
        ended = 0
        for _ in range(GENERATIONS):
            now = set(children() if all_of_it or ended else _children_of_this_thread()) - self._children
            alive = [pid for pid in now if not _dead(pid)]
            end(alive)
            for pid in now:
                with contextlib.suppress(OSError):
                    os.waitpid(pid, 0 if pid in alive else os.WNOHANG)
            if not alive:  # else their own children have become this process's
                break
            ended += len(alive)
        return ended

    def keeps_children(self) -> None:
        """Those that run now may: a compiler's are its own."""
        self._children |= set(children())

    def threads_at_work(self) -> bool:
        """Whether threads beside this one keep a core busy."""
        own = threading.get_native_id()
        for _ in range(LOOKS):
            time.sleep(LOOK_SECONDS)
            if not any(_runs(thread) for thread in _native_threads() if thread != own):
                return False
        return True

    def lose(self, reason: str) -> NoReturn:
        """Ends the process, which has become unfit; whose case the heartbeat names is measured no further."""
        print(reason, file=sys.__stderr__, flush=True)
        self._exit(STATE_LOST)
        raise SystemExit(STATE_LOST)


def _native_threads() -> list[int]:
    """The system's numbers of this process's threads; none where it doesn't say."""
    try:
        return list(map(int, os.listdir("/proc/self/task")))
    except OSError:
        return []


def _not_python_s() -> int:
    return len(_native_threads()) - state.threads()


def _state(stat: str) -> str:
    """R where it runs or waits for a core, S where it sleeps, Z where it has ended."""
    try:
        about = Path(stat).read_text(encoding="ascii", errors="replace")
    except OSError:
        return "Z"
    return about.rpartition(")")[2].split()[0]


def _runs(thread: int) -> bool:
    return _state(f"/proc/self/task/{thread}/stat") == "R"


def _children_of_this_thread() -> list[int]:
    try:
        with open("/proc/thread-self/children", encoding="ascii") as listed:
            return list(map(int, listed.read().split()))
    except OSError:
        return []


def _dead(pid: int) -> bool:
    """Whether it has ended and waits to be waited for."""
    return _state(f"/proc/{pid}/stat") == "Z"


def _end_on_return() -> None:
    """A fork that a contender makes in a call may do as it likes; should it come back from the call, it ends there.

    Else two processes would go on with one panel, and both would tell of it.
    """
    own = sys._getframe().f_code
    ours = ("opbench.engine", "opbench.measure", "opbench.verify", "opbench.process")

    def look(frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code is not own and frame.f_globals.get("__name__", "").startswith(ours):
            os._exit(0)

    sys.setprofile(look)
