"""The processes of a local Ray cluster in which slots live."""

import contextlib
import time

import psutil


def actors():
    """The processes of Ray in which slots live."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error):
            if "NodeWorker" in " ".join(process.info["cmdline"] or ()):
                found.append(process)
    return found


def wait_for(what, seconds=30.0):
    """Until `what()` is true."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
