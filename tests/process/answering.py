"""A child that speaks the protocol and does what it is asked: `python -m answering`."""

import os
import subprocess
import sys
import time

import msgspec

from opbench.process.channel import serve
from opbench.schema import OpbenchError


class Ask(msgspec.Struct, frozen=True):
    what: str


class Answer(msgspec.Struct, frozen=True, tag=True):
    value: float = 0.0
    text: str = ""


def answer(ask):
    match ask.what:
        case "pid":
            yield Answer(os.getpid())
        case "grandchild":
            yield Answer(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]).pid)
        case "daemon" | "daemon and exit":
            yield Answer(daemon())
            if ask.what == "daemon and exit":
                os._exit(3)
        case "imports":
            import random

            yield Answer(text=random.__file__)
        case "infinity":
            yield Answer(float("-inf"), "\udc80")
        case "prints":
            print("noise " * 100_000, flush=True)
            os.write(1, b'{"type":"Answer","text":"forged"}\n')
            os.write(2, b"noise " * 1_000_000)
            yield Answer(text=f"read {sys.stdin.read()!r}")
        case "raises":
            raise ValueError("worn out")
        case "refuses":
            raise OpbenchError("a sentence")
        case "sleeps":
            time.sleep(1000)
        case "slow":
            for _ in range(3):
                time.sleep(0.4)
                yield Answer()


def daemon():
    """Leaves a process in a session of its own, whose parent has ended and which holds every pipe; its number."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, f"{os.getpid()}\n".encode())
            time.sleep(1000)
        os._exit(0)
    os.wait()
    return int(os.read(reading, 100))


if __name__ == "__main__":
    serve(Ask, answer)
