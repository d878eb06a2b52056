"""Standard output: through rich where it is installed, as plain text otherwise. Nothing printed is read as markup."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from opbench.report.table import TEXT_LIMIT, Table

if TYPE_CHECKING:
    from rich.console import Console

    from opbench.schema import Run

# What progress is told: how many are done, and what comes next.
Told = Callable[[int, str], None]


class Screen(Protocol):
    """What a command prints on."""

    def line(self, text: str) -> None:
        """One line, never folded."""
        ...

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
        """Text in columns."""
        ...

    def summary(self, run: Run) -> None:
        """What a run found."""
        ...

    def progress(self, total: int, unit: str, first: str) -> contextlib.AbstractContextManager[Told]:
        """Shows how far something of `total` units has come; `first` is what it begins with."""
        ...


def screen() -> Screen:
    """Standard output; where that is a file or a pipe, wide enough that no cell is folded."""
    try:
        from rich.console import Console
    except ImportError:
        return _Plain()
    return _Rich(Console(width=None if sys.stdout.isatty() else 160))


class _Rich:
    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
        self._console.print(_table(header, rows, title).rich(TEXT_LIMIT))

    def summary(self, run: Run) -> None:
        from opbench.report.terminal import summary

        self._console.print(summary(run))

    @contextlib.contextmanager
    def progress(self, total: int, unit: str, first: str) -> Iterator[Told]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as TimeLeftColumn

        columns = (
            SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeElapsedColumn(),
            TextColumn("left"), TimeLeftColumn(), TextColumn("{task.description}"),
        )  # fmt: skip
        # Drawn twice a second: drawing takes time from what is measured.
        with Progress(*columns, console=self._console, transient=True, refresh_per_second=2) as bar:
            task = bar.add_task(first, total=total)
            yield lambda done, text: bar.update(task, completed=done, description=text)


class _Plain:
    def line(self, text: str) -> None:
        print(text, flush=True)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
        print("\n".join(_table(header, rows, title).text()), flush=True)

    def summary(self, run: Run) -> None:
        from opbench.report.terminal import closing, contents

        for table in contents(run):
            print("\n".join(table.text()), flush=True)
        self.line(closing(run))

    @contextlib.contextmanager
    def progress(self, total: int, unit: str, first: str) -> Iterator[Told]:
        def told(done: int, text: str) -> None:
            if text:
                self.line(f"{done} of {total} {unit}: {text}")

        told(0, first)
        yield told


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], title: str) -> Table:
    return Table(tuple(header), tuple(map(tuple, rows)), title=title)
