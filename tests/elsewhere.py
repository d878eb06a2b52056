"""Windows and macOS as opbench sees them: what they lack is hidden from its own modules, here and in child processes.

Torch, pytest and the standard library go on as they are. `site(folder, system)` is a folder for PYTHONPATH.
"""

import os
from pathlib import Path

# Names that a system's Python doesn't have.
OF_LINUX = [
    "memfd_create",
    "sched_getaffinity",
    "sched_setaffinity",
    "waitid",
    "WEXITED",
    "WNOWAIT",
    "P_PID",
    "sigwaitinfo",
    "RTLD_NOLOAD",
]
OF_UNIX = [
    "fork",
    "forkpty",
    "killpg",
    "setsid",
    "getpgid",
    "WNOHANG",
    "getuid",
    "geteuid",
    "register_at_fork",
    "pread",
    "getpriority",
    "setpriority",
    "PRIO_PROCESS",
    "O_NONBLOCK",
    "O_CLOEXEC",
    "O_NOFOLLOW",
    "O_NOCTTY",
    "RTLD_NOW",
    "sysconf",
    "mkfifo",
    "getloadavg",
    "SIGHUP",
    "SIGKILL",
    "SIGSTOP",
    "SIGCHLD",
    "SIGALRM",
    "pthread_sigmask",
    "setitimer",
    "getitimer",
    "ITIMER_REAL",
    "ITIMER_VIRTUAL",
    "ITIMER_PROF",
]
GONE = {"macOS": ((), OF_LINUX), "Windows": (("fcntl", "resource"), OF_LINUX + OF_UNIX)}

HIDING = """
import builtins, io, os, signal, sys, types

MODULES, NAMES = {modules!r}, frozenset({names!r})
BETWEEN = ("pathlib", "io", "os", "posixpath", "genericpath", "shutil", "tempfile", "contextlib", "sitecustomize")


class Lacking(types.ModuleType):
    def __init__(self, whole):
        super().__init__(whole.__name__)
        self.__dict__["whole"] = whole

    def __getattr__(self, name):
        if name in NAMES:
            raise AttributeError(f"module {{self.whole.__name__!r}} has no attribute {{name!r}}")
        return getattr(self.whole, name)

    def __setattr__(self, name, value):
        setattr(self.whole, name, value)


LACKING = {{"os": Lacking(os), "signal": Lacking(signal)}}
real_import = builtins.__import__


def ours(depth=2):
    frame = sys._getframe(depth)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in BETWEEN:
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == "opbench"


def hiding_import(name, globals=None, locals=None, fromlist=(), level=0):
    if str((globals or {{}}).get("__name__", "")).split(".")[0] == "opbench" and not level:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        if name in LACKING:
            return LACKING[name]
    return real_import(name, globals, locals, fromlist, level)


def without_proc(function):
    def look(path=".", *arguments, **named):
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(("/proc", "/sys/")) and ours():
            raise FileNotFoundError(2, "No such file or directory", os.fspath(path))
        return function(path, *arguments, **named)

    return look


builtins.__import__ = hiding_import
builtins.open = io.open = without_proc(io.open)
for name in ("stat", "listdir", "scandir", "open"):
    setattr(os, name, without_proc(getattr(os, name)))
"""


def site(folder, system):
    """The folder; and whether the interpreter of this machine has one of its own that is left out is no matter."""
    modules, names = GONE[system]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(HIDING.format(modules=modules, names=names))
    return os.pathsep.join([str(folder), str(Path(__file__).parents[1])])
