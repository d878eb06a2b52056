"""The one console: rich where it is installed, plain text otherwise. Nothing printed is read as markup."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

from opbench.options import Loudness
from opbench.plural import counted
from opbench.report.escape import visible
from opbench.report.fitted import shortened
from opbench.report.table import Table
from opbench.schema import OpbenchError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from opbench.schema import Plan, Run

# What progress is told: how many are done, and what comes next.
Told = Callable[[int, str], None]
# What a pipe or a file is given unless COLUMNS says otherwise: so wide that hardly a cell is folded.
WIDE = 160
# Of a line of progress: what is left for the bar of a narrow terminal, and what the counts and times take.
LEAST_BAR, COUNTS_AND_TIMES = 8, 46


class Screen(Protocol):
    """What a command prints on."""

    def line(self, text: str) -> None:
        """One line, never folded."""
        ...

    def table(
        self, header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "", names: tuple[int, ...] = (0,)
    ) -> None:
        """Text in columns, of which `names` hold identifiers."""
        ...

    def show(self, *parts: RenderableType) -> None:
        """What rich renders, one part below the other."""
        ...

    def summary(self, run: Run, lang: str = "en") -> None:
        """What a run found; its answer in a language."""
        ...

    def progress(self, total: int, unit: str, first: str) -> contextlib.AbstractContextManager[Told]:
        """Shows how far something has come of `total`, each a `unit`; `first` is what it begins with."""
        ...


def screen(*, error: bool = False, loudness: Loudness = "usual") -> Screen:
    """Standard output, or standard error; where that is a file or a pipe, as wide as COLUMNS says, else wide.

    `loudness` is of what is said beside the answer: quietly nothing is, verbosely progress has a line for each step.
    """
    if loudness == "quiet":
        return _Quiet()
    console = _console(error=error)
    if console is None:
        return _Plain(sys.stderr if error else sys.stdout)
    return _Rich(console, loudness)


def print_plan(shown: Screen, plan: Plan) -> None:
    """What would be measured, and what not and why."""
    panels = [(panel.id, "\n".join(case.contender for case in panel.cases)) for panel in plan.panels]
    shown.table(("panel", "contenders"), panels, f"suite {plan.suite}: {counted(len(panels), 'panel')}")
    if plan.skipped:
        skipped = [(case.case, case.reason) for case in plan.skipped]
        shown.table(("skipped case", "reason"), skipped, f"{counted(len(skipped), 'case')} skipped")


@contextlib.contextmanager
def status(first: str, *, piped: bool = False, loudness: Loudness = "usual") -> Iterator[Callable[[str], None]]:
    """A line of what is being done, on standard error while that is a terminal; the yielded function changes it.

    `piped`: a pipe or a file is told too, a line a step; verbosely a terminal is as well, quietly nobody is told.
    """
    console = _console(error=True)
    if loudness == "quiet":
        yield lambda text: None
        return
    if loudness == "verbose" or console is None or not console.is_terminal:
        say = screen(error=True).line if piped or loudness == "verbose" else lambda text: None
        if first and loudness == "verbose":
            say(first)
        yield say
        return
    from rich.text import Text

    with console.status(Text(visible(first))) as shown:
        yield lambda text: shown.update(Text(visible(text)))


def _console(*, error: bool) -> Console | None:
    try:
        from rich.console import Console
    except ImportError:
        return None
    piped = not (sys.stderr if error else sys.stdout).isatty()
    return Console(stderr=error, width=_asked_width() or WIDE if piped else None)


def _asked_width() -> int | None:
    """What COLUMNS says, where it says a number."""
    text = os.environ.get("COLUMNS", "")
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 1 << 16 else None


class _Rich:
    def __init__(self, console: Console, loudness: Loudness) -> None:
        self._console, self._loudness = console, loudness

    def line(self, text: str) -> None:
        shown = "\n".join(visible(line) for line in text.split("\n"))
        self._console.print(shown, soft_wrap=True, markup=False, emoji=False, highlight=False)

    def table(
        self, header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "", names: tuple[int, ...] = (0,)
    ) -> None:
        self._console.print(_table(header, rows, title, names).rich())

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
        if self._loudness == "verbose":
            yield _counting(self.line, total, unit, first)
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as TimeLeftColumn
        from rich.table import Column

        units = counted(total, unit).rpartition(" ")[2]
        # Counts and times are never cut: the bar and the name of what comes next have what they leave.
        width = self._console.width
        bar_width = max(LEAST_BAR, min(40, width // 8))
        room = max(10, width - COUNTS_AND_TIMES - bar_width)
        whole = Column(no_wrap=True, min_width=7)
        columns = (
            SpinnerColumn(), BarColumn(bar_width), MofNCompleteColumn(table_column=whole), TextColumn(units),
            TimeElapsedColumn(table_column=whole), TextColumn("left"), TimeLeftColumn(table_column=whole),
            TextColumn("{task.description}", markup=False),
        )  # fmt: skip
        # Drawn twice a second: drawing takes time from what is measured.
        with Progress(*columns, console=self._console, transient=True, refresh_per_second=2) as bar:
            task = bar.add_task(shortened(visible(first), room), total=total)
            yield lambda done, text: bar.update(task, completed=done, description=shortened(visible(text), room))


class _Plain:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def line(self, text: str) -> None:
        shown = "\n".join(visible(line) for line in text.split("\n"))
        print(shown, file=self._stream, flush=True)

    def table(
        self, header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "", names: tuple[int, ...] = (0,)
    ) -> None:
        self.line("\n".join(_table(header, rows, title, names).text()))

    def show(self, *parts: RenderableType) -> None:
        raise OpbenchError("what this prints is laid out by rich, which isn't installed: pip install rich")

    def summary(self, run: Run, lang: str = "en") -> None:
        from opbench.analyse.standings import standings
        from opbench.report.terminal import answered, closing, contents

        held = standings(run)
        for table in contents(run, held):
            print("\n".join(table.text()), flush=True)
        self.line("\n".join([*answered(held, lang), closing(run, held)]))

    @contextlib.contextmanager
    def progress(self, total: int, unit: str, first: str) -> Iterator[Told]:
        yield _counting(self.line, total, unit, first)


class _Quiet:
    """Nothing is said on it."""

    def line(self, text: str) -> None:
        pass

    def table(
        self, header: Sequence[str], rows: Iterable[Sequence[str]], title: str = "", names: tuple[int, ...] = (0,)
    ) -> None:
        pass

    def show(self, *parts: RenderableType) -> None:
        pass

    def summary(self, run: Run, lang: str = "en") -> None:
        pass

    @contextlib.contextmanager
    def progress(self, total: int, unit: str, first: str) -> Iterator[Told]:
        yield lambda done, text: None


def _counting(line: Callable[[str], None], total: int, unit: str, first: str) -> Told:
    """Says each step on a line of its own, the first at once."""

    def told(done: int, text: str) -> None:
        if text:
            line(f"{done} of {counted(total, unit)}: {text}")

    told(0, first)
    return told


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], title: str, names: tuple[int, ...]) -> Table:
    return Table(tuple(header), tuple(map(tuple, rows)), title=title, names=names)
