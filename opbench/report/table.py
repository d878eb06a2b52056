"""The one table of the reports: text in rows, written as plain text, for a terminal through rich, or as Markdown.

Cells are plain text, not yet escaped for any medium: names, sources and messages come from documents and may hold
anything. Each way of writing a table escapes every cell. HTML is made of the Markdown, by `page`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from opbench.report.escape import code, prose, visible

if TYPE_CHECKING:
    from opbench.report.fitted import FittedTable

# Of a cell: what a person reads in a report, and in a terminal, before the rest is counted only.
MARKDOWN_LIMIT = 300
TEXT_LIMIT = 4_000


class Table(msgspec.Struct, frozen=True):
    """Text in rows. `names` are the columns that hold identifiers; `note` says what the numbers mean.

    `numbers` are the columns that a terminal sets to the right, `unbroken` those that it never folds. `styles` are
    rich's, of cells by (row, column): bold is bold in Markdown too, colours are the terminal's alone.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    names: tuple[int, ...] = (0,)
    title: str = ""
    numbers: tuple[int, ...] = ()
    unbroken: tuple[int, ...] = ()
    styles: Mapping[tuple[int, int], str] = {}

    def markdown(self) -> str:
        """In Markdown; title and note are left to the caller."""
        lines = [_piped(map(prose, self.header)), _piped("---" for _ in self.header)]
        for at, row in enumerate(self.rows):
            lines.append(_piped(self._marked(at, column, cell) for column, cell in enumerate(row)))
        return "\n".join(lines)

    def _marked(self, at: int, column: int, cell: str) -> str:
        shown = visible(cell, MARKDOWN_LIMIT)
        written = code(shown) if column in self.names else prose(shown)
        return f"**{written}**" if "bold" in self.styles.get((at, column), "") else written

    def text(self) -> list[str]:
        """The lines: columns as wide as their widest line, a cell's own lines below each other; an empty one last."""
        cells = [
            [[visible(part, TEXT_LIMIT) for part in cell.split("\n")] for cell in row]
            for row in (self.header, *self.rows)
        ]
        widths = [max(len(part) for row in cells for part in row[index]) for index in range(len(self.header))]
        lines = [self.title] if self.title else []
        for number, row in enumerate(cells):
            for depth in range(max(map(len, row), default=0)):
                texts = (parts[depth] if depth < len(parts) else "" for parts in row)
                lines.append("  ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip())
            if number == 0:
                lines.append("  ".join("-" * width for width in widths))
        return [*lines, ""]

    def rich(self) -> FittedTable:
        """What rich prints, as wide as the terminal; nothing in it is read as markup or as a terminal escape."""
        from opbench.report.fitted import FittedTable

        rows = tuple(tuple(visible(cell, TEXT_LIMIT) for cell in row) for row in self.rows)
        return FittedTable(
            header=tuple(map(visible, self.header)),
            rows=rows,
            title=visible(self.title, TEXT_LIMIT),
            names=self.names,
            numbers=self.numbers,
            unbroken=self.unbroken,
            styles=self.styles,
        )


def _piped(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
