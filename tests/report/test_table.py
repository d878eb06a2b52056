"""The one table: the same cells as plain text, in a terminal and in Markdown, inert in each."""

import io
import re

import pytest
from hostile import EVIL
from markdown_it import MarkdownIt
from rich.console import Console

from opbench.report.table import TEXT_LIMIT, Table

TABLE = Table(("name", "figure"), (("a[b]", "1"), ("c|d", "22")), title="t", numbers=(1,), styles={(1, 1): "bold red"})


def in_a_terminal(table, width=80, colours=None):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=colours)
    console.print(table.rich())
    return console.file.getvalue()


def test_plain_text_has_columns_as_wide_as_their_widest_cell():
    assert TABLE.text() == ["t", "name  figure", "----  ------", "a[b]  1", "c|d   22", ""]


def test_the_lines_of_a_cell_stand_below_each_other():
    assert Table(("a", "b"), (("x\ny", "1"),)).text() == ["a  b", "-  -", "x  1", "y", ""]


def test_markdown_writes_names_as_code_and_bold_as_bold():
    head, rule, first, second = TABLE.markdown().splitlines()
    assert (head, rule, first) == ("| name | figure |", "| --- | --- |", "| `a[b]` | 1 |")
    assert second.endswith(" | **22** |")


def test_markdown_keeps_every_cell_in_its_column():
    tokens = MarkdownIt("commonmark").enable("table").parse(TABLE.markdown())
    assert sum(token.type == "td_open" for token in tokens) == 4


def test_a_terminal_sets_numbers_to_the_right_and_styles_only_what_is_asked():
    lines = in_a_terminal(TABLE).splitlines()
    assert any(line.rstrip().endswith(" 1") for line in lines)
    assert re.search(r"\x1b\[1;31m +22\x1b\[0m", in_a_terminal(TABLE, colours="standard"))


def test_a_table_without_rows_is_its_header():
    assert Table(("a", "b"), ()).text() == ["a  b", "-  -", ""]
    assert Table(("a", "b"), ()).markdown() == "| a | b |\n| --- | --- |"


@pytest.mark.parametrize("way", [lambda table: "\n".join(table.text()), Table.markdown, in_a_terminal])
def test_hostile_cells_stay_on_their_line_and_escape_nothing(way):
    shown = way(Table(("a",), ((EVIL,), ("\x1b[31mred",)), names=()))
    assert "\x1b[31m" not in shown
    assert "\\x1b" in shown


def test_a_very_long_cell_says_how_much_is_left_out():
    assert "more characters" in Table(("a",), (("x" * (TEXT_LIMIT + 1),),)).text()[2]
