"""The journal: every panel's records are on disk before the next panel starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from opbench.document import encode
from opbench.schema import OpbenchError, Record

NAME = "journal.jsonl"


class Journal:
    """Appends records as lines of JSON, on disk before the next panel. The run document takes its place in the end."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("wb")
        except OSError as error:
            raise OpbenchError(f"-o {folder}: cannot be written: {error.strerror}; choose another folder") from error

    def append(self, records: Sequence[Record]) -> None:
        """Writes the records and returns once they are on disk."""
        for record in records:
            self._file.write(encode(record) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
