"""The process that forks workers: `python -m opbench.engine.fork_server HEARTBEAT_FD [OUTPUTS_FD]`.

It imports torch and everything declared, once, and then only waits; the worker is its fork, measures panel after
panel, and may die. The fork server says how it died and forks the next one in milliseconds, where a new interpreter
would take seconds.

Forking after importing torch is safe here because this process is a single thread that has never run an operation:
no lock can be held by a thread that the fork lacks, no OpenMP or autograd pool exists that the worker would believe
in, no CUDA context. This is checked, not assumed: where importing has started threads or touched CUDA (a third
party's package may), this process becomes the worker itself, and the run starts another when that one dies. A user's
own file (`--with`) is imported in the worker, so that what it does there is no danger either.

Every replica of a run gets a fork server of its own: a fork shares the memory layout of its parent, which is part of
what a fresh process is to draw anew.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from pathlib import Path

import torch

from opbench import registry
from opbench.engine import state
from opbench.engine.fingerprint import Fingerprint
from opbench.engine.messages import Assignment, Ended
from opbench.engine.worker import Worker
from opbench.process.channel import channel, die_with_parent
from opbench.process.death import end_group
from opbench.process.heartbeat import Heartbeat

# The exit code of a fork that CUDA will not work in.
UNFIT = 71


def main() -> None:
    """Reads the first assignment for each worker, forks it, and says how it ended."""
    # Whoever asks whether there is a CUDA device while being imported shall not start CUDA: its forks could not use it.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    with channel() as wire:
        registry.load_built_in()
        # What the gate and the counters import at their first call, some seconds of it: once, and on nobody's clock.
        importlib.import_module("torch._inductor")
        importlib.import_module("torch.utils.flop_counter")
        with contextlib.suppress(ImportError):  # the counts then say that it is missing
            importlib.import_module("fvcore.nn")
        fingerprint, known = Fingerprint(), state.state()
        registry.load()
        left = _left(fingerprint, known)
        heartbeat, *outputs = map(int, sys.argv[1:])
        worker = Worker(wire, Heartbeat(heartbeat), fingerprint, left, outputs[0] if outputs else None)
        gc.collect()
        gc.freeze()  # what is here now is never garbage; the workers' collections skip it
        while (assignment := wire.receive(Assignment)) is not None:
            if not alone() or not _forked(worker, assignment):
                worker.work(assignment)
                break


def _left(fingerprint: Fingerprint, known: state.State) -> tuple[str, ...]:
    """What importing installed packages has changed of this process, put back: notes on what those have declared."""
    try:
        changes = state.restore(known)
    except state.Unrestorable as error:  # then every panel begins with it
        changes = [str(error)]
    judges, tools = fingerprint.put_back()
    changes += [f"replaced {name}; put back" for name in (*judges, *tools)]
    return tuple(f"importing installed packages {change}" for change in changes)


def _forked(worker: Worker, assignment: Assignment) -> bool:
    """Forks the worker and waits for its end; False if no fork of this process can work."""
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()  # it and what it starts are one group, and can be ended as one
            die_with_parent(server)
            code = UNFIT if torch.cuda._is_in_bad_fork() else worker.work(assignment)
        finally:
            # Whatever a contender registered to run at exit, and threads it left, have no say in how this ends.
            os._exit(code)
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        end_group(pid)  # what it started, while the zombie holds the group's number
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == UNFIT and worker.heartbeat.last().pid != pid:
        return False
    worker.wire.end_line()  # what the worker was writing when it died may lack its end
    worker.wire.send(Ended(pid, code))
    return True


def alone() -> bool:
    """Whether this process is a single thread whenever it forks, and may therefore be forked.

    OpenBLAS starts a thread when numpy is imported, ends it before every fork (pthread_atfork) and starts it again
    when it is next needed. Threads are therefore counted after a fork that does nothing at all.
    """
    tasks = Path("/proc/self/task")
    if not hasattr(os, "fork") or not tasks.exists():  # without it, of threads that are not Python's nobody knows
        return False
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    threads = len(list(tasks.iterdir()))
    return threads == 1 and not torch.cuda.is_initialized()


if __name__ == "__main__":
    main()
