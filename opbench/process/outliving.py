"""A process that outlives what kills it: the work is done in a fork, and the process that a person started waits.

Whoever runs foreign code below itself may be killed by it. The fork that is killed is made anew, so that what kept a
journal goes on. Against a SIGKILL of the waiting process itself there is no help: then the fork ends with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from opbench.process.descendants import descendants

# More forks than this are not made: what kills each of them is not going to stop.
FORKS = 40
_FORWARDED = frozenset(found for name in ("SIGINT", "SIGTERM", "SIGHUP") if (found := getattr(signal, name, None)))
_AWAITED = _FORWARDED | {found for found in [getattr(signal, "SIGCHLD", None)] if found}
_PR_SET_PDEATHSIG = 1


def can_fork() -> bool:
    """Whether a fork of this process is as good as the process: of one thread, and without torch."""
    tasks = Path("/proc/self/task")
    single = threading.active_count() == 1 and tasks.is_dir() and len(list(tasks.iterdir())) == 1
    return hasattr(signal, "sigwaitinfo") and single and "torch" not in sys.modules


def outliving(say: Callable[[str], None], what: str = "the run", then: str = "it goes on from its journal") -> int:
    """Returns in a fork, with the number of those before it that were killed; the caller itself never gets beyond it.

    It ends as its last fork does. `say` hears of each that was killed: `what` it was, and what comes `then`. Signals
    that a person or a system sends are handed on; of one that comes from below nobody hears.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    for number in range(FORKS):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # else a fork writes it once more
        waiting, pid = os.getpid(), os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != waiting:  # it died before the kernel was told
                os._exit(int(signal.SIGKILL))
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return number
        code, handed_on = _end_of(pid)
        if code >= 0:
            raise SystemExit(code)
        if -code in handed_on or number == FORKS - 1:
            break
        say(f"{what} was killed by {signal.Signals(-code).name}, from below or outside; {then}")
    if -code in handed_on:  # its end is this one's
        signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.kill(os.getpid(), -code)
    raise SystemExit(128 - code)


def _end_of(pid: int) -> tuple[int, set[int]]:
    """Waits for a fork: its exit code as subprocess has it, and the signals that it was handed on."""
    handed_on: set[int] = set()
    while True:
        found = signal.sigwaitinfo(_AWAITED)
        if found.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if ended and os.WIFSTOPPED(status):
                if os.WSTOPSIG(status) == signal.SIGSTOP:  # a terminal's stop has another number, and stops both
                    os.kill(pid, signal.SIGCONT)
            elif ended:
                return os.waitstatus_to_exitcode(status), handed_on
        elif found.si_pid not in (pid, *descendants(pid)):
            handed_on.add(found.si_signo)
            if found.si_pid:  # a terminal's own signal, which the fork has had as well, is nobody's
                os.kill(pid, found.si_signo)
