"""Parquet: the columns of the CSV with their types, text as it is. The same runs give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence

from opbench.report.exports.columns import COLUMNS, Cell, cells
from opbench.report.exports.rows import ExportedRun
from opbench.schema import OpbenchError


def parquet(runs: Sequence[ExportedRun]) -> bytes:
    """The file. Raises `OpbenchError` where pyarrow is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet as format_
    except ImportError:
        raise OpbenchError("export --format parquet needs pyarrow: pip install 'opbench[parquet]'") from None

    types = {
        "text": pyarrow.string(), "whole": pyarrow.int64(), "real": pyarrow.float64(), "truth": pyarrow.bool_(),
    }  # fmt: skip
    rows = [[_storable(cell) for cell in row] for row in cells(runs)]
    columns = [pyarrow.array([row[at] for row in rows], types[column.kind]) for at, column in enumerate(COLUMNS)]
    out = io.BytesIO()
    format_.write_table(pyarrow.Table.from_arrays(columns, names=[column.name for column in COLUMNS]), out)
    return out.getvalue()


def _storable(cell: Cell) -> Cell:
    """Text may hold lone surrogates, which UTF-8 refuses."""
    return cell.encode("utf-8", "backslashreplace").decode() if isinstance(cell, str) else cell
