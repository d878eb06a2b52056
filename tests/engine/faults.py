"""Contenders of the toy task that take down, stall or disturb the process they run in."""

import ctypes
import os
import sys
import threading
import time

import torch

from opbench.registry import register_implementation

MESSAGE_BYTES = 4 << 20


def right(x, weight):
    return x * 2 * weight


def fault(name):
    return register_implementation("toy", "double", name)


@fault("segfault")
def segfault(x, weight):
    return ctypes.string_at(0)


@fault("abort")
def abort(x, weight):
    print("giving up", file=sys.stderr, flush=True)
    os.abort()


@fault("exit")
def exit_(x, weight):
    os._exit(3)


@fault("system-exit")
def system_exit(x, weight):
    sys.exit(0)


@fault("floods")
def floods(x, weight):
    held = []
    while True:
        held.append(torch.ones(1 << 22))


@fault("hangs-in-c")
def hangs_in_c(x, weight):
    ctypes.PyDLL(None).pause()  # PyDLL keeps the interpreter's lock: no Python thread of this process runs again


@fault("hangs-in-python")
def hangs_in_python(x, weight):
    while True:
        time.sleep(0.01)


@fault("nan")
def nan(x, weight):
    return right(x, weight).mul_(torch.nan)


@fault("view")
def view(x, weight):
    return x[:]


@fault("doubles-in-place")
def doubles_in_place(x, weight):
    return x.data.mul_(2 * weight)


@fault("leaks-threads")
def leaks_threads(x, weight):
    for _ in range(8):  # a busy machine makes few calls in the budget, and three of them must be enough
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    return right(x, weight)


class LeavesOneThread:
    def __init__(self):
        self.thread = None

    def __call__(self, x, weight):
        if self.thread is None:
            self.thread = threading.Thread(target=time.sleep, args=(1000,), daemon=True)
            self.thread.start()
        return right(x, weight)


@fault("changes-thread-count")
def changes_thread_count(x, weight):
    torch.set_num_threads(torch.get_num_threads() + 1)
    return right(x, weight)


@fault("changes-dtype")
def changes_dtype(x, weight):
    torch.set_default_dtype(torch.float64)
    return right(x, weight)


@fault("reseeds")
def reseeds(x, weight):
    torch.manual_seed(1)
    return right(x, weight)


class Draws:
    """Right if torch's random numbers at its first call are the same whoever ran before."""

    def __init__(self):
        self.offset = None

    def __call__(self, x, weight):
        if self.offset is None:
            self.offset = torch.rand(()) - 0.49625658988952637  # what torch draws first after manual_seed(0)
        return right(x, weight) + self.offset


@fault("prints")
def prints(x, weight):
    print("x" * MESSAGE_BYTES, flush=True)
    print("x" * MESSAGE_BYTES, file=sys.stderr, flush=True)
    return right(x, weight)


class Later:
    """Right for its first calls, of which proof and count take fewer than ten; then `work`."""

    def __init__(self, work):
        self.calls, self.work = 0, work

    def __call__(self, x, weight):
        self.calls += 1
        if self.calls == 40:
            self.work(x)
        return right(x, weight)


@fault("segfault-later")
class SegfaultLater(Later):
    def __init__(self):
        super().__init__(lambda x: ctypes.string_at(0))


@fault("mutates-later")
class MutatesLater(Later):
    def __init__(self):
        super().__init__(lambda x: x.data.add_(1e-3))


def change_and_raise(x):
    torch.set_default_dtype(torch.float64)
    raise RuntimeError("worn out")


@fault("changes-then-raises")
class ChangesThenRaises(Later):
    def __init__(self):
        super().__init__(change_and_raise)


@fault("looks-around")
def looks_around(x, weight):
    """Right where nothing has been changed: numbers are float32, and drawing them begins at the beginning."""
    assert torch.empty(0).dtype == torch.float32
    assert threading.active_count() == 1
    return right(x, weight)


fault("leaves-one-thread")(LeavesOneThread)
fault("draws")(Draws)
