"""A run's summary for the terminal: a table per panel, the baseline first, then its contenders by speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from opbench.analyse.quality import quality, sentence
from opbench.analyse.standings import Standing, standings
from opbench.quantities import RATIO, exact
from opbench.report import evidence, tables
from opbench.report.answer import answer
from opbench.report.escape import visible
from opbench.report.table import Table
from opbench.report.targets import targets
from opbench.schema import Run

if TYPE_CHECKING:
    from rich.console import Group


def contents(run: Run, held: Sequence[Standing]) -> Iterator[Table]:
    """Every table of the summary, as text; `held` are the run's standings."""
    yield from map(_panel, held)
    if run.targets:
        found = targets(run)
        yield _noticed(msgspec.structs.replace(found, title="targets"), "met")


def closing(run: Run, held: Sequence[Standing]) -> str:
    """The sentence below the tables; `held` are the run's standings."""
    tally = evidence.tally(held, run)
    said = f"{tally}. Above 1x is slower than the baseline; {tables.MACS_UNIT}."
    return visible(" ".join(filter(None, (said, sentence(quality(run))))))


def answered(held: Sequence[Standing], lang: str = "en") -> list[str]:
    """What the standings answer, a line a sentence: below the tables, where a reader's eyes are when the run ends."""
    return [visible(sentence) for sentence in answer(held, lang)]


def summary(run: Run, lang: str = "en") -> Group:
    """What rich prints for a run; nothing in the run is read as markup or as a terminal escape."""
    from rich.console import Group
    from rich.text import Text

    held = standings(run)
    said = "\n".join([*answered(held, lang), closing(run, held)])
    return Group(*(table.rich() for table in contents(run, held)), Text(said))


def _panel(standing: Standing) -> Table:
    methods = standing.methods or ("",)
    latencies = (f"{RATIO.title}{tables.suffix(standing, method)}" for method in methods)
    shown = exact("terminal")
    header = ("contender", *latencies, *(tables.heading(name, standing) for _, name in shown), "outcome")
    rows = []
    for row in standing.ranked():
        ratios = (tables.latency_ratio(row, method) for method in methods)
        rows.append((row.case.contender, *ratios, *(tables.cell(of, row) for of, _ in shown), tables.outcome(row)))
    numbers = tuple(range(1, len(header) - 1))
    return _noticed(Table(header, tuple(rows), title=standing.panel.id, numbers=numbers), "correct")


def _noticed(table: Table, fine: str) -> Table:
    """With the last cell of every row in bold that is not `fine`."""
    last = len(table.header) - 1
    styles = {(at, last): "bold" for at, row in enumerate(table.rows) if not row[last].startswith(fine)}
    return msgspec.structs.replace(table, styles=styles)
