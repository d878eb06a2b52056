"""run.log beside run.json: what a run did and when, one line a step, for whoever wants to know where its time went.

Nothing reads it again: what counts is in the journal and in the run document. A resumed run adds to it.
"""

from __future__ import annotations

import contextlib
import datetime
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from opbench.schema import Environment, Record, Yardstick

NAME = "run.log"
Write = Callable[[str], None]


class Log:
    """Appends lines to DIR/run.log, each with the time and flushed at once; a folder that can't be written has none."""

    def __init__(self, folder: Path) -> None:
        self._file = None
        with contextlib.suppress(OSError):  # the journal says so, as an error
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / NAME).open("a", encoding="utf-8", errors="backslashreplace")

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.write(f"ended by {type(error).__name__}: {error}")
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def write(self, text: str) -> None:
        """One line. What a contender said may be in it: only what can be seen is written. A full disk costs the log."""
        if self._file is None:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in " ".join(text.split()))
        with contextlib.suppress(OSError):
            self._file.write(f"{now} {shown}\n")
            self._file.flush()


def surroundings(environment: Environment, yardsticks: Iterable[Yardstick]) -> Iterable[str]:
    """Where it is measured and what the machine can do."""
    yield f"machine: {environment.cpu}, {environment.threads} threads; GPU: {environment.gpu or 'none'}"
    yield from (f"{name}: {text}" for name, text in environment.details.items())
    for one in yardsticks:
        middle = sorted(one.samples)[len(one.samples) // 2] if one.samples else float("nan")
        yield f"yardstick {one.name} {one.device} {one.dtype}: {middle:.4g} {one.unit}"


def finished(panel: str, replica: int, records: Iterable[Record], seconds: float, node: str = "") -> Iterable[str]:
    """What became of a panel, on which node of a fleet, how long it took, and every case that did not end well."""
    records = tuple(records)
    tally = ", ".join(f"{count} {outcome}" for outcome, count in Counter(r.outcome for r in records).items())
    where = f" on {node}" if node else ""
    yield f"panel {panel} (process {replica + 1}){where}: {tally or 'nothing'}; {seconds:.2f} s"
    for record in records:
        if record.outcome != "ok":
            yield f"  {record.case.contender}: {record.outcome}: {record.message}"
        yield from (f"  {record.case.contender}: {note}" for note in record.notes)
