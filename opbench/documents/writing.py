"""Files written whole or not at all, by any number of processes at once, on this machine or on others.

What is written stands beside its target under a name of its own until it is renamed into place. A process that was
killed meanwhile leaves such a file; the next one that writes into the folder takes it away. Who still writes holds a
lock on it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

from opbench.documents.opening import BINARY, CLOEXEC, CLOSE_FIRST, NOCTTY, NOFOLLOW, NONBLOCK, lock
from opbench.errors import OpbenchError

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
# How often a name is drawn that nobody has; one draw is enough but for a folder in which somebody takes them away.
_DRAWS = 100
# What a temporary name has of its target's, which may be as long as a name can be.
_NAME = 200
# What a pipe takes in one write.
_PIECE = 1 << 16


def replace_file(path: str | os.PathLike[str], content: bytes | Iterable[bytes]) -> None:
    """Writes `content`, or its pieces in turn, beside `path`, flushes it to the disk and renames it into place.

    A link is followed: the file that it names is replaced, and the link stays. A device or a pipe takes the content
    itself and is never replaced. Raises `OpbenchError` where it can't be written.
    """
    target = Path(path)
    pieces = (content,) if isinstance(content, bytes) else content
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        kind = _kind(target)
        if kind is not None and not stat.S_ISREG(kind):
            _pour(target, pieces, kind)
        else:
            _replace(Path(os.path.realpath(target)) if target.is_symlink() else target, pieces)
    except OSError as error:
        raise OpbenchError(f"{target}: can't be written: {error.strerror or error}") from None


def _kind(target: Path) -> int | None:
    """The mode of what a path names, through links; None where there is nothing yet."""
    try:
        return target.stat().st_mode
    except FileNotFoundError:
        return None


def _pour(target: Path, pieces: Iterable[bytes], kind: int) -> None:
    """Writes to a device or a pipe that somebody reads."""
    if stat.S_ISDIR(kind):
        raise OSError("Is a directory")
    if not (stat.S_ISCHR(kind) or stat.S_ISFIFO(kind)):
        raise OSError("neither a file nor a pipe")
    try:
        descriptor = os.open(target, os.O_WRONLY | NONBLOCK | CLOEXEC | NOCTTY)
    except OSError as error:
        raise OSError("a pipe that nobody reads" if stat.S_ISFIFO(kind) else error.strerror) from None
    try:
        os.set_blocking(descriptor, True)
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(descriptor, rest[:_PIECE]) :]
    finally:
        os.close(descriptor)


def _replace(target: Path, pieces: Iterable[bytes]) -> None:
    _clear(target.parent)
    temporary, descriptor = _own(target)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
            if CLOSE_FIRST:
                file.close()
            os.replace(temporary, target)  # while the lock is held, where that can be: nobody takes it away
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _own(target: Path) -> tuple[Path, int]:
    """A new file beside the target, locked, and the descriptor that it is written through."""
    begin = os.fsdecode(os.fsencode(target.name)[:_NAME])
    for _ in range(_DRAWS):
        temporary = target.with_name(f".{begin}.{secrets.token_hex(8)}.tmp")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | CLOEXEC | BINARY, 0o666)
        except FileExistsError:
            continue
        if _locked(descriptor) and os.fstat(descriptor).st_nlink:
            return temporary, descriptor
        os.close(descriptor)  # it is being taken away, or was before it was locked
    raise OSError("no name for a temporary file is free")


def _locked(descriptor: int) -> bool:
    """Locks a new file; False where another has it locked, who takes it for one that was left."""
    try:
        lock(descriptor)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: then none is taken away either
        pass
    return True


def _clear(folder: Path) -> None:
    """Takes away what killed writers left: temporary files that nobody holds a lock on."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if _TEMPORARY.fullmatch(name):
                _take_away(folder / name)


def _take_away(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(temporary, os.O_WRONLY | NOFOLLOW | NONBLOCK | CLOEXEC)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                lock(descriptor)
                temporary.unlink()
        finally:
            os.close(descriptor)
