"""A child that dies as DYING says once it has a request, and how that is named. Run by its path or as a module."""

import os
import sys
import time
from typing import NamedTuple

MEMORY_BYTES = 96 << 20
OUTPUT_BYTES = 1 << 20


class Dying(NamedTuple):
    """A way to die, what the parent says of it, and how long the parent is to wait."""

    name: str
    said: str
    seconds: float = 60.0

    def arrange(self, monkeypatch):
        """Children die like this from here on, and are allowed little."""
        here = os.path.dirname(__file__)
        known = filter(None, [os.environ.get("PYTHONPATH")])
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, *known]))
        monkeypatch.setenv("DYING", self.name)
        monkeypatch.setattr("opbench.process.child.MEMORY_SHARE", 1.0)
        monkeypatch.setattr("opbench.process.child.free_bytes", lambda: MEMORY_BYTES)
        monkeypatch.setattr("opbench.process.child.OUTPUT_BYTES", OUTPUT_BYTES)


DEATHS = (
    Dying("hang", "killed after 1 s without a sign of life", 1.0),
    Dying("crash", "died with SIGABRT (last words)"),
    Dying("exit", "ended the process, exit code 3"),
    Dying("flood", "killed for 0.000977 GiB of output that is no message"),
    Dying("endless line", "killed for 0.000977 GiB of output that is no message"),
    Dying("memory", "GiB (allowed: 0.09 GiB)"),
)


def main():
    sys.stdin.readline()
    match os.environ["DYING"]:
        case "hang":
            time.sleep(1000)
        case "crash":
            print("last words", file=sys.stderr, flush=True)
            os.abort()
        case "exit":
            os._exit(3)
        case "flood":
            while True:
                os.write(1, b"no message" * 1000 + b"\n")
        case "endless line":
            while True:
                os.write(1, b"no end" * 1000)
        case "memory":
            held = []
            while True:
                held.append(b"x" * (1 << 20))


if __name__ == "__main__":
    main()
