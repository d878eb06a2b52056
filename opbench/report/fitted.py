"""A table in a terminal as wide as it happens to be: what is folded, what is shortened, what stays on its line.

In this order: sentences fold at words; identifiers are shortened in their middle; and where that isn't enough the
columns are shown in parts below each other, each with the first column. A number stays beside its unit and an interval
beside its number, and of a sentence nothing is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

GAP = "  "
ELLIPSIS = "…"
# Below these a sentence reads badly and an identifier no longer tells itself from others. The second pair is the end.
SENTENCE, IDENTIFIER = 28, 30
LEAST_SENTENCE, LEAST_IDENTIFIER = 14, 12

# What is never folded inside: a number with its interval, a number with its unit; else a word.
_WORD = re.compile(
    r"\S+(?: %)? \[[^\]]{1,40}\]\S*|[-+]?\d[\d,.]*x? (?:ns|µs|ms|s|[KMGT]i?B(?:/s)?|B|k|M|G|T|P|%)(?!\w)\S*|\S+"
)


def shortened(text: str, room: int) -> str:
    """An identifier in so many columns: its beginning and its end, of which the end says more.

    >>> shortened("upsample2x/yolov8n-p5-p4/float32/cpu/inference", 26)
    'upsample2x/y…cpu/inference'
    """
    if _width(text) <= room or room < 3:
        return text
    kept = room - 1
    end = (kept + 1) // 2
    return _cut(text, kept - end) + ELLIPSIS + _cut(text[::-1], end)[::-1]


def folded(text: str, room: int) -> list[str]:
    """The lines of a sentence in so many columns, folded between words; a word that is longer is cut where it must be.

    >>> folded("1.02x [1.00, 1.04] of the baseline", 12)
    ['1.02x [1.00, 1.04]', 'of the', 'baseline']
    """
    lines: list[str] = []
    line = ""
    for found in _WORD.finditer(text):
        word = found[0]
        joined = f"{line} {word}" if line else word
        if _width(joined) <= room:
            line = joined
            continue
        if line:
            lines.append(line)
        whole = " " in word  # a number with what belongs to it
        while _width(word) > room and not whole:
            head = _cut(word, max(1, room))
            lines.append(head)
            word = word[len(head) :]
        line = word
    return [*lines, line] if line or not lines else lines


class TableColumn(NamedTuple):
    """A column as it may be laid out: how wide it would be, and how narrow it can be."""

    kind: Literal["number", "identifier", "sentence"]
    natural: int
    least: int


@dataclass(frozen=True)
class FittedTable:
    """What rich prints of a table whose cells are inert text already.

    `styles` are rich's, of cells by (row, column). Of the columns, `numbers` are set to the right; neither they nor
    the `unbroken` ones are folded, and `names` are shortened.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    names: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()
    unbroken: tuple[int, ...] = ()
    styles: Mapping[tuple[int, int], str] | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        rule = "-" if options.ascii_only else "─"
        if self.title:
            for words in self._title(options.max_width):
                yield Text(words, "bold", no_wrap=True, overflow="ignore")
        for part in self._parts(options.max_width):
            for laid_out in self._part(part, rule):
                # In a terminal that is narrower than a number and its row's name nothing is lost either.
                fits = laid_out.cell_len <= options.max_width
                yield laid_out if fits else Text.assemble(laid_out, overflow="fold")
            yield Text("")

    def _title(self, room: int) -> Iterator[str]:
        """One identifier is shortened; of several words each that is too long."""
        yield from folded(" ".join(shortened(word, room) for word in self.title.split()), room)

    def _parts(self, room: int) -> Iterator[dict[int, int]]:
        """The columns that stand beside each other with their widths; more than one part where not all do."""
        columns = [self._column(at, room) for at in range(len(self.header))]
        left = list(range(len(columns)))
        while left:
            taken = [] if left[0] == 0 else [0]
            while left and (len(taken) < 2 or _fits([columns[at].least for at in (*taken, left[0])], room)):
                taken.append(left.pop(0))
            widths = fitting([columns[at] for at in taken], room - len(GAP) * (len(taken) - 1))
            yield dict(zip(taken, widths, strict=True))

    def _column(self, at: int, room: int) -> TableColumn:
        cells = [row[at] for row in self.rows]
        natural = max(map(_width, (self.header[at], *cells)))
        words = max((_width(word) for word in _WORD.findall(self.header[at])), default=0)
        if at in self.numbers or at in self.unbroken:
            longest = max(map(_width, cells), default=0)
            return TableColumn("number", max(longest, words), max(longest, words))
        if at in self.names:
            # As long as three tenths of the terminal hold it, an identifier is whole: columns give way first.
            return TableColumn("identifier", natural, min(natural, max(LEAST_IDENTIFIER, min(24, 3 * room // 10))))
        kept = max((_width(word) for cell in cells for word in _WORD.findall(cell) if " " in word), default=0)
        return TableColumn("sentence", natural, min(natural, max(LEAST_SENTENCE, kept, min(words, 20))))

    def _part(self, widths: Mapping[int, int], rule: str) -> Iterator[Text]:
        from rich.text import Text

        heads = {at: folded(self.header[at], width) for at, width in widths.items()}
        yield from self._lines(heads, widths, dict.fromkeys(widths, "bold"))
        yield Text(GAP.join(rule * width for width in widths.values()), no_wrap=True, overflow="ignore")
        styles = self.styles or {}
        for number, row in enumerate(self.rows):
            cells = {at: self._cell(at, row[at], width) for at, width in widths.items()}
            yield from self._lines(cells, widths, {at: styles.get((number, at), "") for at in widths})

    def _cell(self, at: int, text: str, width: int) -> list[str]:
        if at in self.names and at not in (*self.numbers, *self.unbroken):
            return folded(text, width) if " " in text else [shortened(text, width)]
        return [text] if at in self.numbers or at in self.unbroken else folded(text, width)

    def _lines(
        self, cells: Mapping[int, list[str]], widths: Mapping[int, int], styles: Mapping[int, str]
    ) -> Iterator[Text]:
        from rich.text import Text

        last = next(reversed(widths))
        for depth in range(max(map(len, cells.values()))):
            line = Text(no_wrap=True, overflow="ignore")
            for at, width in widths.items():
                text = cells[at][depth] if depth < len(cells[at]) else ""
                pad = " " * max(0, width - _width(text))
                padded = pad + text if at in self.numbers else text if at == last else text + pad
                line.append(padded, styles[at])
                line.append("" if at == last else GAP)
            yield line


def fitting(columns: Sequence[TableColumn], room: int) -> list[int]:
    """A width for each column; beyond `room` only where even the least of all is."""
    wide = [column.natural if column.kind == "number" else min(column.natural, max(room, 1)) for column in columns]
    stages = (
        ("sentence", SENTENCE),
        ("identifier", IDENTIFIER),
        ("sentence", LEAST_SENTENCE),
        ("identifier", LEAST_IDENTIFIER),
    )
    for kind, floor in stages:
        able = [at for at, column in enumerate(columns) if column.kind == kind]
        while sum(wide) > room:
            able = [at for at in able if wide[at] > max(floor, columns[at].least)]
            if not able:
                break
            wide[max(able, key=wide.__getitem__)] -= 1
    return wide


def _fits(widths: Sequence[int], room: int) -> bool:
    return sum(widths) + len(GAP) * (len(widths) - 1) <= room


def _width(text: str) -> int:
    """Columns of a terminal: a Chinese character takes two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _cut(text: str, room: int) -> str:
    """The beginning of a text, as much as fits."""
    if text.isascii():
        return text[:room]
    end = 0
    for end in range(len(text) + 1):
        if _width(text[:end]) > room:
            return text[: end - 1]
    return text[:end]
