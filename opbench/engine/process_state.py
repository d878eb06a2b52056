"""What Python and the system keep for the whole process, a `Setting` each: how it is read, and how it is put back."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` without its enumerations, in a tenth of the time
import gc
import locale
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

try:
    import resource
except ImportError:  # not a Unix
    resource = None  # type: ignore[assignment]


class Setting(NamedTuple):
    """One piece of the state. What `restore` can't put back it leaves, or raises."""

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], Any]
    shown: bool = True  # whether its values say something in a sentence


def _put_back_filters(filters: tuple[Any, ...]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    getattr(warnings, "_filters_mutated", lambda: None)()


_LIMITS = [name for name in dir(resource) if name.startswith("RLIMIT_")] if resource else []


def _limits() -> tuple[Any, ...]:
    return tuple(resource.getrlimit(getattr(resource, name)) for name in _LIMITS)


def _put_back_limits(limits: tuple[Any, ...]) -> None:
    for name, limit in zip(_LIMITS, limits, strict=True):
        if resource.getrlimit(getattr(resource, name)) != limit:
            resource.setrlimit(getattr(resource, name), limit)


_FIXED = [getattr(signal, name, None) for name in ("SIGKILL", "SIGSTOP")]  # nobody handles these
_SIGNALS = tuple(int(number) for number in signal.valid_signals() if number not in _FIXED)


def _handlers() -> tuple[Any, ...]:
    return tuple(map(_signal.getsignal, _SIGNALS))


def _put_back_handlers(handlers: tuple[Any, ...]) -> None:
    for number, handler in zip(_SIGNALS, handlers, strict=True):
        if handler is not None and _signal.getsignal(number) != handler:
            signal.signal(number, handler)


_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF) if hasattr(signal, "setitimer") else ()


def _timers() -> tuple[bool, ...]:
    return tuple(signal.getitimer(timer) != (0.0, 0.0) for timer in _TIMERS)


def _stop_timers(running: tuple[bool, ...]) -> None:
    for timer, runs in zip(_TIMERS, running, strict=True):
        if not runs:
            signal.setitimer(timer, 0.0)


def _streams() -> tuple[Any, ...]:
    return sys.stdin, sys.stdout, sys.stderr


def _put_back_streams(streams: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr = streams


def _folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "a folder that is gone"


def _environment() -> dict[Any, Any]:
    return dict(os.environ._data) if hasattr(os.environ, "_data") else dict(os.environ)


def _put_back_environment(held: dict[Any, Any]) -> None:
    now = _environment()
    text = os.environ.decodevalue if held and isinstance(next(iter(held)), bytes) else str
    for name in now.keys() - held.keys():
        del os.environ[text(name)]
    for name, value in held.items():
        if now.get(name) != value:
            os.environ[text(name)] = text(value)


def _umask() -> int:
    """The umask, which can't be read without being set."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _of_the_system() -> Iterator[Setting]:
    if hasattr(os, "sched_getaffinity"):
        put_back = lambda cores: os.sched_setaffinity(0, cores)  # noqa: E731
        yield Setting("the cores it may run on", lambda: os.sched_getaffinity(0), put_back)
    if hasattr(os, "sched_getscheduler"):
        put_back_policy = lambda policy: os.sched_setscheduler(0, policy, os.sched_param(0))  # noqa: E731
        yield Setting("the scheduling policy", lambda: os.sched_getscheduler(0), put_back_policy)
    if hasattr(os, "getpriority"):
        who = (os.PRIO_PROCESS, 0)
        put_back_priority = lambda value: os.setpriority(*who, value)  # noqa: E731
        yield Setting("the process's priority", lambda: os.getpriority(*who), put_back_priority)
    if hasattr(signal, "pthread_sigmask"):
        put_back_mask = lambda held: signal.pthread_sigmask(signal.SIG_SETMASK, held)  # noqa: E731
        read = lambda: _signal.pthread_sigmask(_signal.SIG_BLOCK, ())  # noqa: E731
        yield Setting("which signals are blocked", read, put_back_mask)
    if resource is not None:
        yield Setting("the system's limits", _limits, _put_back_limits, shown=False)


PROCESS_SETTINGS = (
    Setting("the garbage collector", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    Setting("the garbage collector's thresholds", gc.get_threshold, lambda held: gc.set_threshold(*held)),
    Setting("what the garbage collector calls", lambda: list(gc.callbacks),
            lambda held: gc.callbacks.__setitem__(slice(None), held), shown=False),
    Setting("how often Python's threads take turns", sys.getswitchinterval, sys.setswitchinterval),
    Setting("how deep Python may recurse", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("what sees every call of Python", sys.getprofile, sys.setprofile, shown=False),
    Setting("what sees every line of Python", sys.gettrace, sys.settrace, shown=False),
    Setting("what sees every call of new threads", threading.getprofile, threading.setprofile, shown=False),
    Setting("what sees every line of new threads", threading.gettrace, threading.settrace, shown=False),
    Setting("which warnings are shown", lambda: tuple(warnings.filters), _put_back_filters, shown=False),
    Setting("the standard streams", _streams, _put_back_streams, shown=False),
    Setting("the locale", lambda: locale.setlocale(locale.LC_ALL), lambda held: locale.setlocale(locale.LC_ALL, held)),
    Setting("what is done on a signal", _handlers, _put_back_handlers, shown=False),
    Setting("timers that interrupt", _timers, _stop_timers, shown=False),
    Setting("the current folder", _folder, os.chdir),
    Setting("the environment's variables", _environment, _put_back_environment, shown=False),
    Setting("the umask", _umask, os.umask, shown=False),
    *_of_the_system(),
)  # fmt: skip
