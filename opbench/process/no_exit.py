"""Foreign code that is imported may not end the process that imports it: its exit code would be a command's own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NoReturn


@contextlib.contextmanager
def no_exit() -> Iterator[None]:
    """Has `os._exit` raise SystemExit, of this process alone."""
    leave, here = os._exit, os.getpid()

    def refused(status: int) -> NoReturn:
        if os.getpid() != here:  # a fork of its own may end as it likes
            leave(status)
        raise SystemExit(status)

    os._exit = refused
    try:
        yield
    finally:
        os._exit = leave
