"""The one console: rich where it is installed, plain text otherwise. Nothing printed is read as markup."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

from opbench.report.escape import visible
from opbench.report.table import TEXT_LIMIT, Table
from opbench.schema import OpbenchError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from opbench.schema import Plan, Run

# What progress is told: how many are done, and what comes next.
Told = Callable[[int, str], None]
# What a pipe or a file is given: so wide that no cell is folded.
WIDE = 160


class Screen(Protocol):
    """What a command prints on."""

    def line(self, text: str) -> None:
        """One line, never folded."""
        ...

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
        """Text in columns."""
        ...

    def show(self, *parts: RenderableType) -> None:
        """What rich renders, one part below the other."""
        ...

    def summary(self, run: Run, lang: str = "en") -> None:
        """What a run found; its answer in a language."""
        ...

    def progress(self, total: int, unit: str, first: str) -> contextlib.AbstractContextManager[Told]:
        """Shows how far something of `total` units has come; `first` is what it begins with."""
        ...


def screen(*, error: bool = False) -> Screen:
    """Standard output, or standard error; where that is a file or a pipe, wide enough that no cell is folded."""
    console = _console(error=error)
    return _Plain(sys.stderr if error else sys.stdout) if console is None else _Rich(console)


def print_plan(shown: Screen, plan: Plan) -> None:
    """What would be measured, and what not and why."""
    panels = [(panel.id, "\n".join(case.contender for case in panel.cases)) for panel in plan.panels]
    shown.table(("panel", "contenders"), panels, f"suite {plan.suite}: {len(panels)} panels")
    if plan.skipped:
        skipped = [(case.case, case.reason) for case in plan.skipped]
        shown.table(("skipped case", "reason"), skipped, f"{len(skipped)} cases skipped")


@contextlib.contextmanager
def status(first: str, *, piped: bool = False) -> Iterator[Callable[[str], None]]:
    """A line of what is being done, on standard error while that is a terminal; the yielded function changes it.

    `piped`: a pipe or a file is told too, a line a step.
    """
    console = _console(error=True)
    if console is None or not console.is_terminal:
        yield screen(error=True).line if piped else lambda text: None
        return
    from rich.text import Text

    with console.status(Text(visible(first))) as shown:
        yield lambda text: shown.update(Text(visible(text)))


def _console(*, error: bool) -> Console | None:
    try:
        from rich.console import Console
    except ImportError:
        return None
    wide = not (sys.stderr if error else sys.stdout).isatty()
    return Console(stderr=error, width=WIDE if wide else None)


class _Rich:
    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, text: str) -> None:
        shown = "\n".join(visible(line) for line in text.split("\n"))
        self._console.print(shown, soft_wrap=True, markup=False, emoji=False, highlight=False)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
        self._console.print(_table(header, rows, title).rich(TEXT_LIMIT))

    def show(self, *parts: RenderableType) -> None:
        from rich.text import Text

        for part in parts:
            # A sentence is left to the terminal to fold, so that it can be copied whole.
            self._console.print(part, soft_wrap=isinstance(part, Text))

    def summary(self, run: Run, lang: str = "en") -> None:
        from opbench.report.terminal import summary

        self._console.print(summary(run, lang))

    @contextlib.contextmanager
    def progress(self, total: int, unit: str, first: str) -> Iterator[Told]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as TimeLeftColumn

        columns = (
            SpinnerColumn(), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeElapsedColumn(),
            TextColumn("left"), TimeLeftColumn(), TextColumn("{task.description}", markup=False),
        )  # fmt: skip
        # Drawn twice a second: drawing takes time from what is measured.
        with Progress(*columns, console=self._console, transient=True, refresh_per_second=2) as bar:
            task = bar.add_task(visible(first), total=total)
            yield lambda done, text: bar.update(task, completed=done, description=visible(text))


class _Plain:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def line(self, text: str) -> None:
        shown = "\n".join(visible(line) for line in text.split("\n"))
        print(shown, file=self._stream, flush=True)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
        self.line("\n".join(_table(header, rows, title).text()))

    def show(self, *parts: RenderableType) -> None:
        raise OpbenchError("what this prints is laid out by rich, which isn't installed: pip install rich")

    def summary(self, run: Run, lang: str = "en") -> None:
        from opbench.report.terminal import answered, closing, contents

        for table in contents(run):
            print("\n".join(table.text()), flush=True)
        self.line("\n".join([*answered(run, lang), closing(run)]))

    @contextlib.contextmanager
    def progress(self, total: int, unit: str, first: str) -> Iterator[Told]:
        def told(done: int, text: str) -> None:
            if text:
                self.line(f"{done} of {total} {unit}: {text}")

        told(0, first)
        yield told


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], title: str) -> Table:
    return Table(tuple(header), tuple(map(tuple, rows)), title=title)
