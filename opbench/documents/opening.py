"""What of opening a file differs between systems: the flags that a system lacks are 0, and who locks how."""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Any

CLOEXEC: int = getattr(os, "O_CLOEXEC", 0)
NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
NOCTTY: int = getattr(os, "O_NOCTTY", 0)
BINARY: int = getattr(os, "O_BINARY", 0)
# Windows neither renames nor deletes a file that is open.
CLOSE_FIRST = os.name == "nt"
# On Windows a locked byte can't be read or written by anybody else: one that no file of ours has.
_BYTE = 0x7FFFFFF0


def lock(descriptor: int) -> None:
    """Locks an open file until it is closed.

    Raises BlockingIOError at once where another has it locked, OSError where its file system has no locks. A system
    that has none locks nothing.
    """
    try:
        import fcntl
    except ImportError:
        with contextlib.suppress(ImportError):
            _lock_byte(descriptor, importlib.import_module("msvcrt"))
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_byte(descriptor: int, msvcrt: Any) -> None:
    place = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        raise BlockingIOError(error.errno, error.strerror) from error
    finally:
        os.lseek(descriptor, place, os.SEEK_SET)
