"""What the page holds: runs, panels, rows, trends, differences and claims, as one value that JSON can write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

import opbench
from opbench.analyse.standings import Standing, standings
from opbench.report import evidence, limits
from opbench.report.dashboard.columns import Strings, number
from opbench.report.dashboard.differences import differences
from opbench.report.dashboard.places import labels, setup
from opbench.report.dashboard.rows import rows_and_panels, sweeps
from opbench.report.markdown import carried
from opbench.report.tables import Table
from opbench.report.targets import targets
from opbench.schema import Run

# Rows of more runs than this would make the page slow to open; older runs keep their place in trends.
MOST_ROWS = 24_000
# What the project is about: what a person who opens the page came for.
SUBJECTS = ("carafe", "yolo-carafe", "dcnv3", "yolo-dcnv3")


class Document(msgspec.Struct, frozen=True):
    """A run document and where it lies, relative to the results folder."""

    path: str
    run: Run


class Problem(msgspec.Struct, frozen=True):
    """A file that isn't shown, or not wholly, and the sentence that says why."""

    path: str
    sentence: str


class Claim(msgspec.Struct, frozen=True):
    """A published claim and what the runs make of it; every field is text for the page."""

    claim: str
    source: str
    verdict: str
    evidence: str
    baseline: str


def payload(
    documents: Sequence[Document], problems: Sequence[Problem] = (), claims: Sequence[Claim] = ()
) -> dict[str, Any]:
    """The page's data; `documents` oldest first."""
    strings = Strings()
    setups = labels(document.run.environment for document in documents)
    shown = _shown(documents)
    chosen = [(place, setup(documents[place].run.environment), documents[place].run) for place in shown]
    rows, panels = rows_and_panels(chosen, strings)
    left_out = len(documents) - len(shown)
    problems = [*problems, *(problem for document in documents for problem in _doubts(document))]
    return {
        "version": opbench.__version__,
        "runs": [_run(document, setups[setup(document.run.environment)], strings) for document in documents],
        "shown": shown,
        "leftOut": left_out,
        "panels": panels.built(),
        "rows": rows.built(),
        "sweeps": sweeps(chosen, strings),
        "differences": differences([document.run for document in documents], strings),
        "problems": [[strings.add(one.path), strings.add(one.sentence)] for one in problems],
        "claims": [{name: strings.add(text) for name, text in msgspec.structs.asdict(claim).items()} for claim in claims],
        "subjects": [strings.name(name) for name in SUBJECTS],
        "strings": strings.all,
    }


def _shown(documents: Sequence[Document]) -> list[int]:
    """The places of the runs whose rows the page holds: the newest, as many as fit, but the newest one in any case."""
    kept: list[int] = []
    total = 0
    for place in reversed(range(len(documents))):
        total += len(documents[place].run.records)
        if kept and total > MOST_ROWS:
            break
        kept.append(place)
    return kept[::-1]


def _run(document: Document, label: str, strings: Strings) -> dict[str, Any]:
    run = document.run
    standing = standings(run)
    return {
        "path": strings.name(document.path),
        "suite": strings.name(run.settings.suite),
        "machine": strings.name(label),
        "started": strings.name(run.started),
        "commit": strings.name(run.environment.commit or ""),
        "dirty": int(bool(run.environment.dirty)),
        "command": strings.add(run.command),
        "carried": [strings.name(word) for word in carried(run.command)],
        "tally": strings.add(evidence.tally(standing, run)),
        "ok": number(sum(row.outcome == "ok" for one in standing for row in one.rows)),
        "cases": number(sum(len(one.rows) for one in standing)),
        "tables": [_table(title, table, strings) for title, table in _tables(run, standing) if table.rows],
    }


def _tables(run: Run, standing: Sequence[Standing]) -> Iterable[tuple[str, Table]]:
    yield "Environment", evidence.environment(run)
    yield "Targets", targets(run)
    yield "Yardsticks", limits.yardsticks(run)
    yield "Skipped", evidence.skipped(run)
    remarks = tuple((one.panel.id, *remark) for one in standing for remark in evidence.remarks(one))
    yield "Remarks", Table(("panel", "contender", "remark"), tuple(dict.fromkeys(remarks)))


def _table(title: str, table: Table, strings: Strings) -> dict[str, Any]:
    return {
        "title": strings.add(title),
        "header": [strings.add(text) for text in table.header],
        "rows": [[strings.add(cell) for cell in row] for row in table.rows],
        "note": strings.add(table.note),
    }


def _doubts(document: Document) -> Iterable[Problem]:
    """What is odd in a document that could be read."""
    records = document.run.records
    twice = [name for name, times in Counter(record.case.id for record in records).items() if times > 1]
    if twice:
        yield Problem(
            document.path,
            f"{len(twice)} {'case has' if len(twice) == 1 else 'cases have'} more than one record; the last of each is "
            f"shown: {', '.join(twice[:3])}",
        )
    if not records:
        yield Problem(document.path, "shown without rows: the run holds no record")
