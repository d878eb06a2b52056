"""A run's summary for the terminal: a table per panel, the baseline first, then its contenders by speed."""

from __future__ import annotations

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from opbench.analyse.standings import Standing, standings
from opbench.report import evidence, tables
from opbench.report.escape import visible
from opbench.report.targets import targets
from opbench.schema import Run

CELL_LIMIT = 80


def summary(run: Run) -> Group:
    """What rich prints for a run; nothing in the run is read as markup or as a terminal escape."""
    standing = standings(run)
    closing = f"{evidence.tally(standing, run)}. Above 1x is slower than the baseline; {tables.MACS_UNIT}."
    judged = [_targets(run)] if run.targets else []
    return Group(*map(_panel, standing), *judged, Text(visible(closing)))


def _targets(run: Run) -> Table:
    found = targets(run)
    table = Table(title="targets", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in found.header:
        table.add_column(name, overflow="fold")
    for row in found.rows:
        table.add_row(*map(_text, row[:-1]), _text(row[-1], "" if row[-1] == "met" else "bold"))
    return table


def _panel(standing: Standing) -> Table:
    table = Table(title=_text(standing.panel.id, "bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("contender", overflow="fold")
    for method in standing.methods or ("",):
        table.add_column(f"latency vs baseline{tables.suffix(standing, method)}", justify="right", overflow="fold")
    for name in ("params", "MACs", "peak memory"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("outcome", overflow="fold")
    for row in standing.ranked():
        ratios = (tables.latency_ratio(row, method) for method in standing.methods or ("",))
        numbers = (tables.params(row), tables.macs(row), tables.peak(row))
        failed = "" if row.outcome == "ok" else "bold"
        cells = (row.case.contender, *ratios, *numbers)
        table.add_row(*map(_text, cells), _text(tables.outcome(row), failed))
    return table


def _text(value: str, style: str = "") -> Text:
    return Text(visible(value, CELL_LIMIT), style=style)
