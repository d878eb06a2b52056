"""`opbench export`: run documents as what other dashboards read. One module a format; `FORMATS` lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from opbench.documents import replace_file
from opbench.report.exports.asv import asv
from opbench.report.exports.bencher import bencher
from opbench.report.exports.comma_separated import comma_separated
from opbench.report.exports.github_action import bigger_is_better, smaller_is_better
from opbench.report.exports.openmetrics import openmetrics
from opbench.report.exports.parquet import parquet
from opbench.report.exports.pytest_benchmark import pytest_benchmark
from opbench.report.exports.rows import passed
from opbench.schema import OpbenchError, Run


class Format(msgspec.Struct, frozen=True):
    """One export: of exactly one of `one` (a run), `many` (runs, one file) and `folder` (runs, paths to contents).

    `needs_ok`: its reader takes an empty file for a fault, so a run in which nothing ended `ok` is refused.
    """

    reader: str
    one: Callable[[Run], bytes] | None = None
    many: Callable[[Sequence[Run]], bytes] | None = None
    folder: Callable[[Sequence[Run], Path], Mapping[str, bytes]] | None = None
    needs_ok: bool = False


FORMATS: dict[str, Format] = {
    "github-action-benchmark": Format("customSmallerIsBetter of the GitHub action", smaller_is_better, needs_ok=True),
    "github-action-benchmark-bigger": Format("customBiggerIsBetter", bigger_is_better, needs_ok=True),
    "bencher": Format("bencher run --adapter json", bencher, needs_ok=True),
    "pytest-benchmark": Format("pytest-benchmark compare", pytest_benchmark, needs_ok=True),
    "asv": Format("asv publish", folder=asv),
    "openmetrics": Format("Prometheus and its like", openmetrics),
    "csv": Format("any spreadsheet", many=comma_separated),
    "parquet": Format("duckdb, pandas, polars", many=parquet),
}


def export(runs: Sequence[Run], name: str, output: Path) -> tuple[Path, ...]:
    """Writes `runs` in the format `name` to `output`, a file or, for a format of several files, a folder."""
    chosen = FORMATS[name]
    if chosen.needs_ok and not any(passed(run) for run in runs):
        outcomes = ", ".join(sorted({record.outcome for run in runs for record in run.records}))
        raise OpbenchError(
            f"nothing to export: no case ended ok ({outcomes or 'no record at all'}) and {name} has no way to say so"
        )
    if chosen.folder:
        if output.exists() and not output.is_dir():
            raise OpbenchError(f"{output} is a file: {name} writes a folder; give -o FOLDER")
        return _write({output / path: content for path, content in chosen.folder(runs, output).items()})
    if output.is_dir():
        raise OpbenchError(f"{output} is a folder: {name} writes one file; give -o FILE")
    if chosen.many:
        return _write({output: chosen.many(runs)})
    if len(runs) != 1:
        several = ", ".join(known for known, format_ in FORMATS.items() if format_.one is None)
        raise OpbenchError(f"{name} holds one run and got {len(runs)}: export each alone, or as one of {several}")
    assert chosen.one is not None
    return _write({output: chosen.one(runs[0])})


def _write(files: Mapping[Path, bytes]) -> tuple[Path, ...]:
    for path, content in files.items():
        replace_file(path, content)
    return tuple(files)
