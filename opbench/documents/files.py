"""Files of documents: read plain or gzipped, told apart by their first bytes."""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import zlib
from pathlib import Path

from opbench.documents.opening import BINARY, CLOEXEC, NOCTTY, NONBLOCK
from opbench.errors import OpbenchError
from opbench.storage.address import address_of, split
from opbench.storage.objects import ObjectStore

# A document of 100,000 records with three processes of 60 rounds each has 0.5 GB; one of this size would fill the
# memory of a small machine when read.
LARGEST_BYTES = 1 << 30
GZIP = ".gz"
_MAGIC = b"\x1f\x8b"


def json_in(path: str | os.PathLike[str], expected: str, file: str = "") -> bytes:
    """The JSON in the file at `path`. Raises `OpbenchError`, one line, where it can't be read.

    FILE stands for FILE.gz where only that is there, and a folder for its `file`. `expected` is what belongs there, as
    in "a run document".
    """
    name = os.fspath(path)
    if (address := address_of(path)) is not None:
        return _at_address(address, expected, file)
    target = Path(path)
    if file and target.is_dir():
        target = _there(target / file)
        if not target.exists():
            raise OpbenchError(f"{name} is a folder without {file}; expected {expected}")
    try:
        return unpacked(content(_there(target), pipes=True))
    except FileNotFoundError:
        raise OpbenchError(f"{name}: no such file; expected {expected}") from None
    except IsADirectoryError:
        raise OpbenchError(f"{name} is a folder; expected {expected}") from None
    except OSError as error:
        raise OpbenchError(f"{name}: can't be read: {error.strerror or error}") from None
    except OpbenchError as error:
        raise OpbenchError(f"{name}: {error}") from None


def _at_address(address: str, expected: str, file: str) -> bytes:
    """The same of what lies at an address, which is asked for by each name that it may have."""
    folder, name = split(address)
    within = [name, name + GZIP, *([f"{name}/{file}", f"{name}/{file}{GZIP}"] if file else [])]
    store = ObjectStore.at(folder)
    for one in within:
        if (data := store.read(one, LARGEST_BYTES)) is not None:
            try:
                return unpacked(data)
            except OpbenchError as error:
                raise OpbenchError(f"{address}: {error}") from None
    raise OpbenchError(f"{address}: nothing lies there; expected {expected}")


def unpacked(data: bytes) -> bytes:
    """What was gzipped, or `data` itself where nothing was; `OpbenchError` for a damaged or an excessive one."""
    if not data.startswith(_MAGIC):
        return data
    try:
        found = gzip.GzipFile(fileobj=io.BytesIO(data)).read(LARGEST_BYTES + 1)
    except EOFError:
        raise OpbenchError("the gzipped data end too early: the file was cut short") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise OpbenchError(f"the gzipped data are damaged: {error}") from None
    if len(found) > LARGEST_BYTES:
        raise OpbenchError(f"unpacks to more than the {LARGEST_BYTES >> 20} MiB that a document may have")
    return found


def content(path: str | os.PathLike[str], *, pipes: bool = False) -> bytes:
    """What is in a file, or with `pipes` comes out of a pipe too; never more than a document may have, never waiting.

    A file of the kernel's (`/proc/kmsg`) is a file by its mode and may have nothing to read yet: that is an error here.
    Raises `OpbenchError` for what is neither, and for too much; `OSError` where it can't be read.
    """
    descriptor = os.open(path, os.O_RDONLY | NONBLOCK | CLOEXEC | NOCTTY | BINARY)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not (stat.S_ISREG(kind) or (pipes and stat.S_ISFIFO(kind))):
            raise OpbenchError("neither a file nor a folder")
        if stat.S_ISFIFO(kind):
            os.set_blocking(descriptor, True)
        pieces: list[bytes] = []
        size = 0
        while size <= LARGEST_BYTES:
            piece = file.read(LARGEST_BYTES + 1 - size)
            if piece is None:
                raise BlockingIOError(errno.EAGAIN, "nothing to read in it yet: no document")
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            size += len(piece)
    raise OpbenchError(f"more than the {LARGEST_BYTES >> 20} MiB that a document may have")


def _there(path: Path) -> Path:
    """The file, or its gzipped one where only that is there."""
    packed = path.with_name(path.name + GZIP)
    return packed if packed.is_file() and not path.exists() else path
