"""report.md, its charts and report.html: the comparison first, then what stands behind it; the same bytes of a run.

Everything that comes from the document is escaped on its way in; nothing else writes to the text.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from opbench.analyse.quality import quality as of_run
from opbench.analyse.quality import sentence
from opbench.analyse.standings import Contest, Standing, contests, standings
from opbench.documents import replace_file
from opbench.plural import counted
from opbench.report import evidence, limits, numbers, tables
from opbench.report.answer import answer
from opbench.report.charts import Chart, charts, missing
from opbench.report.escape import block, code, label, prose
from opbench.report.table import Table
from opbench.report.targets import targets
from opbench.run_request import row_command
from opbench.schema import Run

# Cases of a report with charts and a page: a chart takes half a second, and a browser minutes for a hundred megabytes.
MOST_DRAWN = 5_000
REPORT = "report.md"
PAGE = "report.html"

_HEADINGS = {
    "ratio": "Latency against the baseline",
    "scaling": "Scaling",
    "pareto": "Latency against MACs",
    "accuracy": "Accuracy against speed",
    "roofline": "Roofline",
    "memory": "Memory",
}

# What page and paper show only to whoever opens it: the details of what stands above.
_FOLDED = frozenset({"Every panel", "MACs counted three ways"})

# A table becomes one or two blocks (itself and its note), anything else is a block already.
Part = str | Table


def report(run: Run, lang: str = "en") -> dict[str, bytes]:
    """File name -> content: `report.md`, `charts/*.svg`, and `report.html`, which holds all of it in one file.

    `lang` is the language of the sentences at the top, which answer what a person came with; all else is English.

    A bare machine (one with a GPU and little else) may lack what draws charts or writes pages: report.md says what is
    left out, and `opbench report` adds it elsewhere.
    """
    standing = standings(run)
    too_many = _too_many(standing)
    drawn = () if too_many else charts(run, standing)
    parts = itertools.chain(
        _opening(run, standing, lang),
        _answer(standing),
        _against_the_machine(run, standing),
        _pictures(drawn, too_many),
        _details(run, standing),
        _rest(run, standing),
    )
    text = "\n\n".join(_blocks(parts)) + "\n"
    pictures = {_path(chart): chart.svg for chart in drawn}
    drawn_files = {name: svg.encode() for name, svg in pictures.items()}
    if too_many:
        return {REPORT: text.encode()}
    try:
        from opbench.report.page import page
    except ImportError:  # markdown-it-py
        return {REPORT: text.encode()} | drawn_files
    return {REPORT: text.encode(), PAGE: page(text, pictures, _FOLDED)} | drawn_files


def write(run: Run, folder: str | os.PathLike[str], lang: str = "en") -> Path:
    """Writes the report, its charts and its page into `folder` and returns the path of report.md, written last."""
    files = report(run, lang)
    for name in sorted(files, key=lambda name: name == REPORT):
        replace_file(Path(folder) / name, files[name])
    return Path(folder) / REPORT


def _blocks(parts: Iterable[Part]) -> Iterator[str]:
    """Text blocks; a note that explains many tables is printed once, below the first of them."""
    said: set[str] = set()
    for part in parts:
        if isinstance(part, str):
            yield part
            continue
        yield part.markdown()
        if part.note and part.note not in said:
            said.add(part.note)
            yield prose(part.note)


def _opening(run: Run, standing: Sequence[Standing], lang: str) -> Iterator[Part]:
    where = run.environment
    device = f"{where.gpu} and {where.cpu}" if where.gpu else where.cpu
    yield f"# {prose(run.settings.suite)}: contenders against their baselines"
    yield from map(prose, answer(standing, lang))
    yield (
        f"{prose(evidence.tally(standing, run))}. Measured on {prose(device)} ({counted(where.threads, 'thread')}), "
        f"torch {prose(where.versions.get('torch', 'unknown'))}, commit {prose(where.commit or 'unknown')}"
        f"{' with uncommitted changes' if where.dirty else ''}, {prose(run.started)}."
    )
    if quality := sentence(of_run(run)):
        yield prose(quality)
    yield block([run.command], "sh")
    if run.targets:
        yield "## Targets"
        yield targets(run)


def _answer(standing: Sequence[Standing]) -> Iterator[Part]:
    for task, group in itertools.groupby(contests(standing), key=lambda contest: (contest.case.task, contest.baseline)):
        name, baseline = task
        yield f"## {prose(name)}, against {code(baseline) if baseline else 'no baseline'}"
        for contest in group:
            yield f"### {prose(title(contest))}"
            if contest.source:
                yield f"Source: {prose(contest.source)}"
            yield tables.contest(contest)


def title(contest: Contest, devices: str = "") -> str:
    """What the panels of a contest share, in words; `devices` where it is shown beside the same one elsewhere."""
    case = contest.case
    spread = "" if case.spread is None else f", offset spread {case.spread:g} px"
    sizes = contest.standings[0].sizes
    executed = f", {case.executed}" if case.executed else ""
    return f"{case.workload}, {case.dtype}, {devices or case.device}{executed}{spread} ({sizes})"


def _against_the_machine(run: Run, standing: Sequence[Standing]) -> Iterator[Part]:
    yield "## Roofline fraction and accuracy"
    for task, fractions, errors in limits.across(standing, run):
        yield f"### {prose(task)}"
        yield fractions
        yield errors


def _too_many(standing: Sequence[Standing]) -> str:
    """Why a report draws nothing and has no page: nobody reads thousands of charts. "" of one that does."""
    cases = sum(len(one.rows) for one in standing)
    if cases <= MOST_DRAWN:
        return ""
    return f"{cases:,} cases are more than a report draws ({MOST_DRAWN:,}); `opbench dashboard` shows them"


def _pictures(drawn: Sequence[Chart], too_many: str) -> Iterator[Part]:
    if too_many:
        yield f"Without charts and report.html: {too_many}."
    elif reason := missing():
        yield f"Without charts: {reason} here. `opbench report run.json -o .` draws them where it is."
    for kind, group in itertools.groupby(drawn, key=lambda chart: chart.kind):
        yield f"## {_HEADINGS[kind]}"
        yield from (f"![{label(chart.title)}]({_path(chart)})" for chart in group)


def _details(run: Run, standing: Sequence[Standing]) -> Iterator[Part]:
    yield "## Every panel"
    for panel in standing:
        yield f"### {code(panel.panel.id)}"
        for table in (tables.panel(panel), tables.samples(panel), limits.limits(panel, run)):
            if table.rows:
                yield table
        yield from (f"{code(contender)}, {prose(remark)}." for contender, remark in evidence.remarks(panel))
        yield "To measure a row again:"
        yield block([row_command(run, row.case) for row in panel.ranked()], "sh")


def _rest(run: Run, standing: Sequence[Standing]) -> Iterator[Part]:
    sections = (
        ("MACs counted three ways", evidence.counts(standing), "No case was counted."),
        ("Failures", evidence.failures(standing), "No case failed."),
        ("Skipped", evidence.skipped(run), "No case was skipped."),
        ("Yardsticks", limits.yardsticks(run), "This run measured no yardsticks."),
        ("Environment", evidence.environment(run), ""),
    )
    for title, table, nothing in sections:
        yield f"## {title}"
        yield table if table.rows else nothing
    yield "## Reproduce"
    yield f"The run took {numbers.seconds(run.wall_seconds)}; it and this report:"
    yield block([run.command, "opbench report run.json -o ."], "sh")


def _path(chart: Chart) -> str:
    return f"charts/{chart.name}.svg"
