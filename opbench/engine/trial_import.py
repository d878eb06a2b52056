"""Files of `--with` are imported in a process of their own before a command imports them: `python -m` this module.

What crashes, hangs or ends its process at import is named in a sentence, and costs that process alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

import msgspec

from opbench.engine.planner import IMPORT_SECONDS, OWN_SECONDS
from opbench.process.channel import serve
from opbench.process.child import Child
from opbench.process.death import Death
from opbench.schema import OpbenchError


class FilesToTry(msgspec.Struct, frozen=True):
    """The files, in the order in which they are imported."""

    paths: tuple[str, ...]


class FileNext(msgspec.Struct, frozen=True, tag=True):
    """The file that is about to be imported; "": every one has been."""

    path: str


def try_files(paths: Iterable[str]) -> None:
    """Raises OpbenchError for a file that can't be imported, whatever it does to the process that imports it."""
    with Child[FileNext](["-m", __name__], FileNext, broken="importing failed, not a file") as child:
        child.send(FilesToTry(tuple(paths)))
        found = child.receive(OWN_SECONDS)
        while isinstance(found, FileNext) and found.path:
            path = found.path
            found = child.receive(IMPORT_SECONDS)
            if isinstance(found, Death):
                raise OpbenchError(f"--with {path}: importing it: its process {found.message}")
    if isinstance(found, Death):
        raise OpbenchError(f"--with: the process that imports files {found.message}")


def answer(wanted: FilesToTry) -> Iterator[FileNext]:
    """Imports the files, each announced."""
    from opbench import registry

    registry.load_built_in()
    for path in wanted.paths:
        yield FileNext(path)
        with contextlib.chdir(os.getcwd()):  # back to where a relative path means what it did
            registry.load_file(path)
    yield FileNext("")


if __name__ == "__main__":
    serve(FilesToTry, answer)
