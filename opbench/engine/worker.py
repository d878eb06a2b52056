"""The process that panels are measured in: `python -m opbench.engine.worker BOARD_FD`.

It is two processes. The nursery imports torch and everything declared, once, and then only waits; the worker is its
fork, measures panel after panel, and may die. The nursery says how it died and forks the next one in milliseconds,
where a new interpreter would take seconds.

Forking after importing torch is safe here because the nursery is a single thread that has never run an operation:
no lock can be held by a thread that the fork lacks, no OpenMP or autograd pool exists that the worker would believe
in, no CUDA context. This is checked, not assumed: where importing has started threads or touched CUDA (a third
party's package may), the nursery becomes the worker itself, and the run starts another when that one dies. A user's
own file (`--with`) is imported in the worker, so that what it does there is no danger either.

Every replica of a run gets a nursery of its own: a fork shares the memory layout of its parent, which is part of what
a fresh process is to draw anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import BinaryIO

import torch

from opbench import registry
from opbench.child import apart, end_group
from opbench.documents import decode, encode
from opbench.engine import state
from opbench.engine.board import Board
from opbench.engine.environment import environment
from opbench.engine.messages import (
    Assignment,
    Began,
    Broken,
    CalledFirst,
    CallFirst,
    Ended,
    Measure,
    Measured,
    Message,
    Refused,
    Survey,
    Surveyed,
)
from opbench.engine.panel import Context, run_panel
from opbench.engine.proof import Stopwatch
from opbench.measure.disturbance import DisturbanceGuard
from opbench.measure.first_call import measure_first_call
from opbench.measure.probes import Probes
from opbench.measure.surroundings import Surroundings
from opbench.measure.yardsticks import measure_yardsticks
from opbench.schema import OpbenchError, Yardstick

_PR_SET_PDEATHSIG = 1
# The exit code of a fork that CUDA will not work in.
UNFIT = 71


def main() -> None:
    """The nursery: reads the first assignment for each worker, forks it, and says how it ended."""
    die_with_parent(os.getppid())
    # Whoever asks whether there is a CUDA device while being imported shall not start CUDA: its forks could not use it.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    with os.fdopen(os.dup(0), "rb", buffering=0) as orders, apart() as out:
        registry.load()
        # What the gate and the counters import at their first call, some seconds of it: once, and on nobody's clock.
        importlib.import_module("torch._inductor")
        with contextlib.suppress(ImportError):  # the counts then say that it is missing
            importlib.import_module("fvcore.nn")
        desk = Desk(orders, out, Board(int(sys.argv[1])))
        gc.collect()
        gc.freeze()  # what is here now is never garbage; the workers' collections skip it
        while (assignment := desk.next()) is not None:
            if not alone() or not _raised(desk, assignment):
                desk.work(assignment)
                break


def _raised(desk: Desk, assignment: Assignment) -> bool:
    """Forks a worker and waits for its end; False if no fork of this process can work."""
    nursery = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()  # it and what it starts are one group, and can be ended as one
            die_with_parent(nursery)
            code = UNFIT if torch.cuda._is_in_bad_fork() else desk.work(assignment)
        finally:
            # Whatever a contender registered to run at exit, and threads it left, have no say in how this ends.
            os._exit(code)
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        end_group(pid)  # what it started, while the zombie holds the group's number
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == UNFIT and desk.board.read().pid != pid:
        return False
    desk.out.write(b"\n")  # what the worker was writing when it died may lack its end
    desk.send(Ended(pid, code))
    return True


def alone() -> bool:
    """Whether this process is a single thread whenever it forks, and may therefore be forked.

    OpenBLAS starts a thread when numpy is imported, ends it before every fork (pthread_atfork) and starts it again
    when it is next needed. Threads are therefore counted after a fork that does nothing at all.
    """
    if not hasattr(os, "fork"):
        return False
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    tasks = Path("/proc/self/task")
    threads = len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()
    return threads == 1 and not torch.cuda.is_initialized()


def die_with_parent(parent: int) -> None:
    """Has the kernel kill this process when its parent dies, where it can (Linux), and be its first choice when
    memory runs out; elsewhere the process ends at its next message.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    if os.getppid() != parent:  # it died before the kernel was told
        os._exit(0)


class Desk:
    """Where assignments come in and results go out."""

    def __init__(self, orders: BinaryIO, out: BinaryIO, board: Board) -> None:
        self.orders, self.out, self.board = orders, out, board
        self._extensions: tuple[str, ...] = ()

    def next(self) -> Assignment | None:
        """The next assignment; None when there are no more. Unbuffered: nursery and worker read the same pipe."""
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = self.orders.read(1)
            if not byte:
                return None
            line += byte
        return decode(bytes(line), Assignment)

    def send(self, message: Message) -> None:
        """Writes one line, at once."""
        self.out.write(encode(message) + b"\n")
        self.out.flush()

    def work(self, first: Assignment) -> int:
        """Takes one assignment after the other; the exit code when there are no more, or this process is worn."""
        state.plain()
        following: Assignment | None = first
        while following is not None:
            self.send(Began(following.number, os.getpid()))
            result = self._answer(following)
            self.send(result)
            if isinstance(result, Measured) and result.worn:
                break
            following = self.next()
        return 0

    def _answer(self, assignment: Assignment) -> Message:
        try:
            self._settle_in(assignment)
            match assignment.work:
                case Survey():
                    return survey(assignment.work)
                case Measure():
                    return measure(assignment.work, self.board)
                case CallFirst():
                    return call_first(assignment.work, self._extensions)
        except OpbenchError as error:
            return Refused(str(error))
        except Exception:
            return Broken(traceback.format_exc())

    def _settle_in(self, assignment: Assignment) -> None:
        if assignment.threads is not None:
            torch.set_num_threads(assignment.threads)
        for path in assignment.extensions:
            if path not in self._extensions:
                registry.load_file(path)
                self._extensions += (path,)


def survey(work: Survey) -> Surveyed:
    """Reads the environment and measures the yardsticks."""
    stopwatch = Stopwatch()
    surroundings = environment()
    yardsticks: list[Yardstick] = []
    for device, dtype in work.yardsticks:
        yardsticks += stopwatch.time(functools.partial(measure_yardsticks, device, dtype))
    return Surveyed(surroundings, tuple(yardsticks), stopwatch.seconds)


def call_first(work: CallFirst, extensions: tuple[str, ...]) -> CalledFirst:
    """Times a first call, with as many threads as this process has."""
    stopwatch = Stopwatch()
    first_call = stopwatch.time(lambda: measure_first_call(work.case, extensions))
    return CalledFirst(first_call, stopwatch.seconds)


@functools.cache
def _surroundings(threads: int) -> Surroundings:
    """Those of this process. Its probes keep threads, so it is made before a panel's are counted."""
    return Surroundings(DisturbanceGuard(), Probes(threads))


def measure(work: Measure, board: Board) -> Measured:
    """Measures a panel. Threads that a contender left running make the process worn."""
    stopwatch = Stopwatch()
    around = _surroundings(torch.get_num_threads())
    threads = threading.active_count()
    context = Context(stopwatch, board.write, work.memory_bytes, work.calls_per_sample, work.counting, around)
    records = run_panel(work.panel, work.settings, context)
    gc.collect()  # a panel's tensors must not weigh on the next one
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return Measured(tuple(records), stopwatch.seconds, worn=threading.active_count() > threads)


if __name__ == "__main__":
    main()
