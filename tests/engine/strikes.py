"""Contenders of the toy task that strike elsewhere: later, in another's call, from another process, at the run."""

import _thread
import ctypes
import os
import resource
import signal
import time

import torch

from opbench.registry import register_implementation


def right(x, weight):
    return x * 2 * weight


def strike(name):
    return register_implementation("toy", "double", name)


def once(work):
    """A contender that is right, and does its work in its first call in this process."""

    class Once:
        done = False

        def __call__(self, x, weight):
            if not Once.done:
                Once.done = True
                work()
            return right(x, weight)

    return Once


def in_a_second(work):
    def later():
        time.sleep(1.0)
        work()

    return once(lambda: _thread.start_new_thread(later, ()))


def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        for number in range(3):
            os.close(number)
        time.sleep(1000)
        os._exit(0)


def interrupt():
    def handler(*_):
        raise RuntimeError("not mine")

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.5, 0.1)


def burn():
    for _ in range(2):
        _thread.start_new_thread(work_on, ())
    time.sleep(0.2)


def work_on():
    numbers = torch.rand(300, 300)
    while True:
        numbers @ numbers


def leave_no_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))


strike("exits-later")(in_a_second(lambda: os._exit(0)))
strike("crashes-later")(in_a_second(lambda: ctypes.string_at(0)))
strike("leaves-a-daemon")(once(daemon))
strike("interrupts")(once(interrupt))
strike("burns")(once(burn))
strike("leaves-no-files")(once(leave_no_files))
strike("kills-the-server")(once(lambda: os.kill(os.getppid(), signal.SIGKILL)))
strike("makes-meta")(once(lambda: torch.set_default_device("meta")))


@strike("forks")
def forks(x, weight):
    os.fork()
    return right(x, weight)


class Mute(Exception):
    def __str__(self):
        raise ValueError("no words")


@strike("mute")
def mute(x, weight):
    raise Mute


@strike("verbose")
def verbose(x, weight):
    raise RuntimeError("A" * 50_000_000)
