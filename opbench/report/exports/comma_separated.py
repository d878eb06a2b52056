"""CSV (RFC 4180, UTF-8, a line feed ends a row) that a spreadsheet can open without running what is in it.

A text that a spreadsheet would take for a formula, because it begins with `=`, `+`, `-` or `@`, gets an apostrophe
before it; so does one behind a semicolon, where spreadsheets of many countries begin a cell. Numbers stay
numbers, negative ones too. A missing figure is an empty cell.

Source: https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from opbench.report.escape import visible
from opbench.report.exports.columns import COLUMNS, Cell, cells
from opbench.report.exports.rows import ExportedRun

# The wide forms are what some spreadsheets take for the narrow ones.
_FORMULA = re.compile(r"(^|;)(\s*)(?=[-=+@＝＋－＠])")


def comma_separated(runs: Sequence[ExportedRun]) -> bytes:
    """The table of all runs, header first."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.name for column in COLUMNS])
    writer.writerows([_written(cell) for cell in row] for row in cells(runs))
    return out.getvalue().encode("utf-8", "backslashreplace")


def _written(cell: Cell) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return "true" if cell else "false"
        case int() | float():
            return repr(cell)
        case _:
            return harmless(cell)


def harmless(text: str) -> str:
    """One line without hidden characters that no spreadsheet reads as a formula.

    >>> harmless("=1+1"), harmless(" @SUM(A1)"), harmless("a;=1+1"), harmless("carafe[cpu]")
    ("'=1+1", "' @SUM(A1)", "a;'=1+1", 'carafe[cpu]')
    """
    return _FORMULA.sub(r"\1'\2", visible(text))
