"""Files of documents: read plain or gzipped, told apart by their first bytes; written whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import zlib
from pathlib import Path

from opbench.errors import OpbenchError

# A document of 100 records and 60 rounds has 0.4 MB; one of this size would fill the memory when read.
LARGEST_BYTES = 256 << 20
GZIP = ".gz"
_MAGIC = b"\x1f\x8b"


def json_in(path: str | os.PathLike[str], expected: str, file: str = "") -> bytes:
    """The JSON in the file at `path`. Raises `OpbenchError`, one line, where it can't be read.

    FILE stands for FILE.gz where only that is there, and a folder for its `file`. `expected` is what belongs there, as
    in "a run document".
    """
    name = os.fspath(path)
    target = Path(path)
    if file and target.is_dir():
        target = found_in(target, file)
        if not target.exists():
            raise OpbenchError(f"{name} is a folder without {file}; expected {expected}")
    try:
        return unpacked(_there(target).read_bytes())
    except FileNotFoundError:
        raise OpbenchError(f"{name}: no such file; expected {expected}") from None
    except IsADirectoryError:
        raise OpbenchError(f"{name} is a folder; expected {expected}") from None
    except OSError as error:
        raise OpbenchError(f"{name}: can't be read: {error.strerror or error}") from None
    except OpbenchError as error:
        raise OpbenchError(f"{name}: {error}") from None


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


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes `content` beside `path`, flushes it to the disk and renames it into place."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OpbenchError(f"{target}: can't be written: {error.strerror or error}") from None


def found_in(folder: Path, file: str) -> Path:
    """Where a file is in a folder, or would be."""
    return _there(folder / file)


def _there(path: Path) -> Path:
    """The file, or its gzipped one where only that is there."""
    packed = path.with_name(path.name + GZIP)
    return packed if packed.is_file() and not path.exists() else path
