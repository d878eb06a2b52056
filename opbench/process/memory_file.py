"""A file in memory alone, which a process hands on to its children."""

from __future__ import annotations

import os
import tempfile

from opbench.errors import OpbenchError

NEEDS_LINUX = (
    "measuring needs Linux (macOS does, too): the process that measures is watched through memory that this system "
    "can't hand on; in Windows' own Linux (WSL) all of opbench works"
)


def memory_file(name: str) -> int:
    """The descriptor of a new, empty one. Raises OpbenchError on a system that can't hand it on."""
    try:
        import fcntl
    except ImportError:
        raise OpbenchError(NEEDS_LINUX) from None
    if hasattr(os, "memfd_create"):  # in memory alone: no file system can make a write to it wait
        file_descriptor = os.memfd_create(name)
    else:
        with tempfile.TemporaryFile() as file:
            file_descriptor = os.dup(file.fileno())
    if file_descriptor <= 2:  # a standard stream was closed: a child would have its own put in this place
        low, file_descriptor = file_descriptor, fcntl.fcntl(file_descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
        os.close(low)
    return file_descriptor
