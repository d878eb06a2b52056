"""`opbench export`: documents as what other tools read. One module a format; `FORMATS` lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from opbench.analyse.compare.nouns import Comparison
from opbench.conformance.findings import Conformance
from opbench.conformance.promises.findings import Promises
from opbench.documents import replace_file
from opbench.report.exports.asv import asv
from opbench.report.exports.bencher import bencher
from opbench.report.exports.comma_separated import comma_separated
from opbench.report.exports.github_action import bigger_is_better, smaller_is_better
from opbench.report.exports.metrics.grafana import grafana
from opbench.report.exports.metrics.openmetrics import backfill, openmetrics
from opbench.report.exports.metrics.prometheus import prometheus
from opbench.report.exports.parquet import parquet
from opbench.report.exports.pytest_benchmark import pytest_benchmark
from opbench.report.exports.rows import ExportedRun, exported
from opbench.report.exports.selection import Selection
from opbench.report.exports.verdicts.annotations import github_annotations
from opbench.report.exports.verdicts.badge import badge
from opbench.report.exports.verdicts.judging import judged
from opbench.report.exports.verdicts.junit import junit
from opbench.report.exports.verdicts.nouns import Judgement
from opbench.report.exports.verdicts.sarif import sarif
from opbench.schema import OpbenchError, Run


class Format(msgspec.Struct, frozen=True):
    """One export, of exactly one of these.

    `one` (a run), `fitting` (a run, and in a sentence what the file does not hold of what was selected), `many` (runs,
    one file), `folder` (runs, paths to contents) and `verdicts` (a run, a comparison or a check). `needs_ok`: its
    reader takes an empty file for a fault, so a run in which nothing ended `ok` is refused. `text`: it can be printed.
    """

    reader: str
    one: Callable[[ExportedRun], bytes] | None = None
    fitting: Callable[[ExportedRun], tuple[bytes, str]] | None = None
    many: Callable[[Sequence[ExportedRun]], bytes] | None = None
    folder: Callable[[Sequence[ExportedRun], Path], Mapping[str, bytes]] | None = None
    verdicts: Callable[[Judgement], bytes] | None = None
    needs_ok: bool = False
    text: bool = True


FORMATS: dict[str, Format] = {
    "github-action-benchmark": Format(
        "customSmallerIsBetter of the GitHub action", fitting=smaller_is_better, needs_ok=True
    ),
    "github-action-benchmark-bigger": Format("customBiggerIsBetter", fitting=bigger_is_better, needs_ok=True),
    "bencher": Format("bencher run --adapter json", bencher, needs_ok=True),
    "pytest-benchmark": Format("pytest-benchmark compare", pytest_benchmark, needs_ok=True),
    "asv": Format("asv publish", folder=asv, text=False),
    "prometheus": Format("Prometheus, node_exporter's textfile collector", prometheus),
    "openmetrics": Format("Prometheus and its like, scraping it", openmetrics),
    "openmetrics-backfill": Format("promtool tsdb create-blocks-from openmetrics", many=backfill),
    "grafana": Format("Grafana, for the metrics of the three formats before", grafana),
    "csv": Format("any spreadsheet", many=comma_separated),
    "parquet": Format("duckdb, pandas, polars", many=parquet, text=False),
    "junit": Format("whatever shows the results of tests: Jenkins, GitLab, ...", verdicts=junit),
    "sarif": Format("GitHub's code scanning and other readers of findings", verdicts=sarif),
    "github-annotations": Format("GitHub Actions, printed by a step", verdicts=github_annotations),
    "badge": Format("shields.io, as an endpoint", verdicts=badge),
}
# The kinds of document that judge something.
VERDICTS: tuple[type, ...] = (Run, Comparison, Conformance, Promises)


def readable(name: str) -> tuple[type, ...]:
    """The types of document that a format can be made of."""
    return VERDICTS if FORMATS[name].verdicts else (Run,)


def contents(
    documents: Sequence[Any], name: str, output: Path, selection: Selection | None = None, at: str = ""
) -> tuple[Mapping[Path, bytes], tuple[str, ...]]:
    """The files that a format makes of the documents, by where they go, and what they do not hold, in sentences.

    `output` is a file or, for a format of several files, a folder, which may have some already. `at`: see `judged`.
    """
    selection = selection or Selection()
    chosen = FORMATS[name]
    if at and not chosen.verdicts:
        raise OpbenchError(f"{name} places nothing in a file: leave --at out")
    _take_something(documents, selection)
    if len(documents) != 1 and not (chosen.many or chosen.folder):
        several = ", ".join(known for known, format_ in FORMATS.items() if format_.many or format_.folder)
        kind = "document" if chosen.verdicts else "run"
        raise OpbenchError(
            f"{name} holds one {kind} and got {len(documents)}: export each alone, or as one of {several}"
        )
    if chosen.verdicts:
        return {output: chosen.verdicts(judged(documents[0], selection, at))}, ()
    runs = [exported(document, selection) for document in documents]
    if chosen.needs_ok and not any(run.passed for run in runs):
        outcomes = ", ".join(sorted({one.row.outcome for run in runs for one in run.cases}))
        raise OpbenchError(
            f"nothing to export: no case ended ok ({outcomes or 'no record at all'}) and {name} has no way to say so"
        )
    if chosen.folder:
        return {output / path: content for path, content in chosen.folder(runs, output).items()}, ()
    if chosen.many:
        return {output: chosen.many(runs)}, ()
    if chosen.fitting:
        content, said = chosen.fitting(runs[0])
        return {output: content}, (said,) if said else ()
    assert chosen.one is not None
    return {output: chosen.one(runs[0])}, ()


def export(
    documents: Sequence[Any], name: str, output: Path, selection: Selection | None = None, at: str = ""
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Writes the documents in the format `name`; says which files it wrote, and what they do not hold."""
    if FORMATS[name].folder:
        if output.exists() and not output.is_dir():
            raise OpbenchError(f"{output} is a file: {name} writes a folder; give -o FOLDER")
    elif output.is_dir():
        raise OpbenchError(f"{output} is a folder: {name} writes one file; give -o FILE")
    files, said = contents(documents, name, output, selection, at)
    for path, content in files.items():
        replace_file(path, content)
    return tuple(files), said


def _take_something(documents: Sequence[Any], selection: Selection) -> None:
    """Raises `OpbenchError` for a pattern that names nothing in any of the documents."""
    names = tuple(dict.fromkeys(name for document in documents for name in _names(document)))
    for pattern in selection.patterns:
        if not any(Selection((pattern,)).takes(name) for name in names):
            example = f", such as {names[0]}" if names else ""
            raise OpbenchError(f"--select {pattern}: none of the {len(names)} names there has this{example}")


def _names(document: Any) -> Iterator[str]:
    """What `--select` chooses among: ids of cases, names of relations or promises."""
    match document:
        case Run():
            yield from (record.case.id for record in document.records)
            yield from (one.case for one in document.skipped)
        case Comparison():
            yield from (row.case.id for row in document.rows)
            yield from (*document.only_in_base, *document.only_in_head)
        case Conformance():
            yield from document.relations
        case Promises():
            yield from (one.promise for one in document.promises)
