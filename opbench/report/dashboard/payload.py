"""What the page holds: runs, panels, rows, trends, differences and claims, as one value that JSON can write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import opbench
from opbench.analyse.claims.nouns import Answer
from opbench.analyse.history.store import FileProblem, Store, Stored, checked
from opbench.analyse.quality import quality, sentence
from opbench.analyse.standings import Standing
from opbench.report import evidence, limits
from opbench.report.answer import answer
from opbench.report.dashboard.columns import Strings
from opbench.report.dashboard.devices import devices
from opbench.report.dashboard.differences import differences
from opbench.report.dashboard.places import labels
from opbench.report.dashboard.rows import Stand, described, rows_and_panels, sweeps
from opbench.report.dashboard.trends import trends
from opbench.report.marks import implementations, marks
from opbench.report.table import Table
from opbench.report.targets import targets
from opbench.run_request import carried
from opbench.schema import OpbenchError, Run
from opbench.statistics.ratios import FEWEST_ROUNDS

# Rows of more runs than this would make the page slow to open; older runs keep their place in trends.
MOST_ROWS = 24_000

# What the page shows of a claim's answer.
_CLAIM = ("claim", "source", "reading", "baseline", "verdict", "evidence")


def payload(store: Store, claims: Sequence[Answer] = (), lang: str = "en") -> dict[str, Any]:
    """The page's data, its answers in a language.

    A document that changed while it was read is a problem like any other.
    """
    strings = Strings()
    documents, problems = _documents(store)
    store, known = checked(store, documents), len(store.problems)
    shown = {document.path for document in documents}
    documents = [one for one in store.runs if one.path in shown]
    problems += store.problems[known:]
    names = labels(digest.environment for digest in store.digests)
    stands = [Stand(place, document.run, document.standings) for place, document in enumerate(documents)]
    rows, panels = rows_and_panels(stands, strings)
    problems += [problem for document in documents for problem in _doubts(document)]
    places = {document.digest.sha256: place for place, document in enumerate(documents)}
    return {
        "version": opbench.__version__,
        "runs": [_run(documents[one.place], one.standings, names, strings) for one in stands],
        "lang": lang,
        "answers": answers(documents, stands, names, strings, lang),
        "quantities": described(),
        "fewestRounds": FEWEST_ROUNDS,
        "panels": panels.built(),
        "rows": rows.built(),
        "sweeps": sweeps(stands, strings),
        "trends": trends(store.digests, places, names, strings),
        "differences": differences([document.run for document in documents], strings),
        "problems": [[strings.add(one.path), strings.add(one.sentence)] for one in problems],
        "devices": devices(store, names, strings),
        "claims": [{name: strings.add(getattr(answer, name)) for name in _CLAIM} for answer in claims],
        "operators": _operators(_names(store, stands), strings),
        "strings": strings.all,
    }


def _names(store: Store, stands: Sequence[Stand]) -> set[str]:
    shown = {row.case.operator for one in stands for standing in one.standings for row in standing.rows}
    return shown | {entry.case.operator for digest in store.digests for entry in digest.entries}


def _operators(names: Iterable[str], strings: Strings) -> list[dict[str, Any]]:
    """The colour and mark of each operator, under which name it is accented, and its implementations in order."""
    return [
        {
            "name": strings.name(name),
            "colour": mark.colour,
            "shape": mark.shape,
            "subject": strings.name(mark.subject),
            "implementations": [strings.name(one) for one in implementations(name)],
        }
        for name, mark in marks(names).items()
    ]


def answers(
    documents: Sequence[Stored], stands: Sequence[Stand], names: Mapping[str, str], strings: Strings, lang: str
) -> list[dict[str, Any]]:
    """For each machine what its newest figures answer, the machine of the newest run first."""
    found: dict[str, dict[tuple[object, ...], Standing]] = {}
    for stand in reversed(stands):
        # By the panel and its sizes: two suites may call different sizes by one name. The newest run of it counts.
        held = found.setdefault(documents[stand.place].digest.machine, {})
        for standing in stand.standings:
            held.setdefault((standing.panel.id, *sorted(standing.case.dims.items())), standing)
    return [
        {"machine": strings.name(names[machine]), "sentences": [strings.add(said) for said in answer(each, lang)]}
        for machine, held in found.items()
        if (each := tuple(held.values()))
    ]


def _documents(store: Store) -> tuple[list[Stored], list[FileProblem]]:
    """The newest runs, as many as the page holds, oldest first; and a sentence for each file that isn't shown."""
    problems = list(store.problems)
    documents: list[Stored] = []
    rows = 0
    for left, one in zip(reversed(range(len(store.runs))), reversed(store.runs), strict=True):
        rows += len(one.digest.entries)
        if documents and rows > MOST_ROWS:
            older = f", nor those of {left} older run{'' if left == 1 else 's'}" if left else ""
            newest = f"it holds the newest {len(documents)}; all of them are in trends"
            problems.append(FileProblem(one.path, f"its rows are not on this page{older}: {newest}"))
            break
        try:
            one.run  # noqa: B018  # read when first asked for
        except OpbenchError as error:
            problems.append(FileProblem("", str(error)))
        else:
            documents.append(one)
    return documents[::-1], problems


def _run(document: Stored, standing: Sequence[Standing], names: Mapping[str, str], strings: Strings) -> dict[str, Any]:
    run = document.run
    return {
        "path": strings.name(document.path),
        "suite": strings.name(run.settings.suite),
        "machine": strings.name(names[document.digest.machine]),
        "started": strings.name(run.started),
        "commit": strings.name(run.environment.commit or ""),
        "dirty": int(bool(run.environment.dirty)),
        "command": strings.add(run.command),
        "carried": [strings.name(word) for word in carried(run.command)],
        "tally": strings.add(evidence.tally(standing, run)),
        "ok": sum(row.outcome == "ok" for one in standing for row in one.rows),
        "cases": sum(len(one.rows) for one in standing),
        "tables": [_table(title, table, strings) for title, table in _tables(run, standing) if table.rows],
    }


def _tables(run: Run, standing: Sequence[Standing]) -> Iterable[tuple[str, Table]]:
    if said := sentence(quality(run)):
        yield "Quality", Table(("of the run",), ((said,),), names=())
    yield "Environment", evidence.environment(run)
    if run.targets:
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


def _doubts(document: Stored) -> Iterable[FileProblem]:
    """What is odd in a document that could be read."""
    records = document.run.records
    twice = [name for name, times in Counter(record.case.id for record in records).items() if times > 1]
    if twice:
        yield FileProblem(
            document.path,
            f"{len(twice)} {'case has' if len(twice) == 1 else 'cases have'} more than one record; the last of each is "
            f"shown: {', '.join(twice[:3])}",
        )
    if not records:
        yield FileProblem(document.path, "shown without rows: the run holds no record")
