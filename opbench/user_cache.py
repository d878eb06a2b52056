"""The user's cache folder, and files in it that nobody else can have written and that nothing has damaged.

What is kept there is taken as it is found, machine code too: only from a folder and a file that this user owns and
nobody else can write to, and only with the digest that it was written with.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
import time
from pathlib import Path

_DIGEST_BYTES = 32
_TEMPORARY = ".tmp"
# A write takes milliseconds: what is as old as this was left by a writer that was killed.
LEFT_SECONDS = 3600.0


def folder(name: str) -> Path | None:
    """The platform's folder for a user's cached files, opbench's own part of that name; None without such a user."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "opbench" / name


def read(file: Path) -> bytes | None:
    """What was written, or None where there is nothing, it was cut short, or somebody else may have written it.

    The file is looked at once it is open, so that no other can take its place meanwhile.
    """
    try:
        with file.open("rb") as stream:
            if not (_own(file.parent.stat()) and _own(os.fstat(stream.fileno()))):
                return None
            content = stream.read()
    except OSError:
        return None
    digest, kept = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return kept if hashlib.sha256(kept).digest() == digest else None


def write(file: Path, content: bytes) -> None:
    """Readers see the whole file or none; without a writable folder there is no cache."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _own(file.parent.stat()):
            return
        clear_left(file.parent, LEFT_SECONDS)
        handle, temporary = tempfile.mkstemp(suffix=_TEMPORARY, dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(hashlib.sha256(content).digest() + content)
            os.replace(temporary, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def clear_left(folder: Path, seconds: float) -> None:
    """Takes away the files of writers that were killed: those of at least this age."""
    for left in folder.glob(f"*{_TEMPORARY}"):
        with contextlib.suppress(OSError):  # another may do the same
            if time.time() - left.stat().st_mtime >= seconds:
                left.unlink()


def _own(status: os.stat_result) -> bool:
    """Whether a file is this user's and nobody else's to write to, where the system knows users."""
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
