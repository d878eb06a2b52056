"""Commands in forks of one process that has imported opbench already: `python -m command_forks FOLDER`.

A command of its own process spends most of its life with imports, where nothing can be lost. Here a fork is the
command. A line of JSON has its words, the step at which it kills itself and the seconds after which it is killed
(null: never); answered is its exit code, negative for a signal.

A step is what changes the files below FOLDER: one that is opened to be written, renamed, deleted or locked, a folder
that is made. The fork dies before it takes the step; a file that is opened is a step more, in which the fork dies when
the first byte is written.
"""

import json
import os
import resource
import signal
import sys
import time
import traceback

from opbench import main, registry
from opbench.analyse.history import retention
from opbench.report import exports, markdown, study
from opbench.report.dashboard import site
from opbench.study import run

IMPORTED = (exports, markdown, retention, run, site, study)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGING = ("os.rename", "os.remove", "os.mkdir")
LOOK_SECONDS = 0.001


class DiesAtStep:
    """An audit hook: kills the process before one of the steps that change files below a folder."""

    def __init__(self, folder, step):
        self.folder, self.step, self.taken = folder, step, 0

    def __call__(self, event, arguments):
        if event in CHANGING or (event == "open" and arguments[2] & WRITING):
            path = arguments[0]
        elif event == "fcntl.flock":
            path = self.folder  # a command locks nothing but what it writes
        else:
            return
        if not (isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(self.folder)):
            return
        self.taken += 1
        if self.taken == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
        if event == "open":
            self.taken += 1
            if self.taken == self.step:  # the first byte is written, and the second one kills
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))


def become(words, step, folder):
    """This process is the command from here on."""
    code = 70
    try:
        said = os.open(os.path.join(os.path.dirname(folder), "said"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.argv = ["opbench", *words]
        if step:
            sys.addaudithook(DiesAtStep(folder, step))
        main.main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def end_of(pid, seconds):
    """The exit code of a fork, which is killed after so many seconds."""
    deadline = float("inf") if seconds is None else time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)  # nobody else has its number until it has been waited for
            deadline = float("inf")
        time.sleep(LOOK_SECONDS)


def serve(folder):
    registry.load()
    print("ready", flush=True)
    for line in sys.stdin:
        words, step, seconds = json.loads(line)
        if (pid := os.fork()) == 0:
            become(words, step, folder)
        print(end_of(pid, seconds), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
