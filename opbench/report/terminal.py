"""A run's summary for the terminal: a table per panel, the baseline first, then its contenders by speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from opbench.analyse.standings import Standing, standings
from opbench.quantities import RATIO, exact
from opbench.report import evidence, tables
from opbench.report.escape import visible
from opbench.report.targets import targets
from opbench.schema import Run

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

CELL_LIMIT = 80


class Block(NamedTuple):
    """One table: `numbers` are the columns set to the right; the last cell of a row is bold unless it is `fine`."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: range
    fine: str


def contents(run: Run) -> Iterator[Block]:
    """Every table of the summary, as text."""
    yield from map(_panel, standings(run))
    if run.targets:
        found = targets(run)
        yield Block("targets", found.header, found.rows, range(0), "met")


def closing(run: Run) -> str:
    """The sentence below the tables."""
    tally = evidence.tally(standings(run), run)
    return visible(f"{tally}. Above 1x is slower than the baseline; {tables.MACS_UNIT}.")


def summary(run: Run) -> Group:
    """What rich prints for a run; nothing in the run is read as markup or as a terminal escape."""
    from rich.console import Group
    from rich.text import Text

    return Group(*map(_table, contents(run)), Text(closing(run)))


def _panel(standing: Standing) -> Block:
    methods = standing.methods or ("",)
    latencies = (f"{RATIO.title}{tables.suffix(standing, method)}" for method in methods)
    shown = exact("terminal")
    header = ("contender", *latencies, *(tables.heading(name, standing) for _, name in shown), "outcome")
    rows = []
    for row in standing.ranked():
        ratios = (tables.latency_ratio(row, method) for method in methods)
        rows.append((row.case.contender, *ratios, *(tables.cell(of, row) for of, _ in shown), tables.outcome(row)))
    return Block(standing.panel.id, header, rows, range(1, len(header) - 1), "ok")


def _table(block: Block) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def text(value: str, style: str = "") -> Text:
        return Text(visible(value, CELL_LIMIT), style=style)

    table = Table(title=text(block.title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(block.header):
        table.add_column(name, justify="right" if index in block.numbers else "left", overflow="fold")
    for row in block.rows:
        table.add_row(*map(text, row[:-1]), text(row[-1], "" if row[-1] == block.fine else "bold"))
    return table
