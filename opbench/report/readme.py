"""Tables inside a README, generated from a run so that no number in it is typed by hand.

A README says where a table goes, from which run document, and of which panels:

    <!-- opbench:results/desk/run.json#upsample2x/neck-80 -->
    <!-- /opbench:results/desk/run.json#upsample2x/neck-80 -->

What follows `#` is the beginning of `task/workload/dtype/device`; without it the table covers the whole run. After the
name of the document, `?targets` asks for the run's targets and what became of them, `?claims` for what papers and
write-ups claim and what the run says of it, `?fastest` for the fastest contender of each of the selected panels, in
place of all of them, and `?answer` for sentences on them, in the language that was asked for:

    <!-- opbench:results/desk/run.json?fastest#carafe_core -->

Several documents joined by `+` share their tables: each workload has the columns of every machine that measured it,
such as those of a CPU and of a GPU. `params`, MACs and memory are those of the first that counted them.

    <!-- opbench:results/desk/run.json+results/gpu/run.json#upsample2x -->

A selfcheck document (`selfcheck.json`) gives one sentence: the machine's false alarms and the slow-downs it finds.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from opbench.analyse.standings import Contest, Row, Standing, contests, standings
from opbench.documents import read
from opbench.errors import nearest
from opbench.plural import counted
from opbench.quantities import MACS, RATIO, exact
from opbench.report import markdown, numbers, tables
from opbench.report.answer import answer
from opbench.report.claims import claims
from opbench.report.escape import prose
from opbench.report.table import Table
from opbench.report.targets import targets
from opbench.schema import OpbenchError, Run, Selfcheck

_BEGIN = re.compile(r"<!-- opbench:(\S+) -->")


def names(text: str) -> tuple[str, ...]:
    """The names of all marked tables, in order."""
    return tuple(_BEGIN.findall(text))


def document(path: Path) -> Run | Selfcheck:
    """The document that a marker names."""
    return read(path, Run, Selfcheck)


def update(text: str, load: Callable[[str], Run | Selfcheck], lang: str = "en") -> str:
    """Every marked table written anew, and sentences that answer in a language.

    `load` opens the document that a marker names before its `?` or `#`.
    """
    for name in names(text):
        contents = [load(path) for path in _parts(name)[0].split("+")]
        text = insert(text, name, contents[0], *contents[1:], lang=lang)
    return text


def insert(text: str, name: str, content: Run | Selfcheck | Table, *more: Run | Selfcheck, lang: str = "en") -> str:
    """The text with what stands between the two markers of `name` replaced by a generated table or sentence.

    `more` are the other documents that the name joins.

    Of a run, the part of the name after `#` selects the panels. Raises OpbenchError if a marker is missing, stands
    twice or out of order, or selects nothing.
    """
    begin, end = f"<!-- opbench:{name} -->", f"<!-- /opbench:{name} -->"
    for marker in (begin, end):
        if text.count(marker) != 1:
            found = ", ".join(names(text)) or "none"
            raise OpbenchError(f"expected {marker} once, found it {text.count(marker)} times (tables here: {found})")
    before, _, rest = text.partition(begin)
    if end not in rest:
        raise OpbenchError(f"{end} stands before {begin}; swap them")
    after = rest.partition(end)[2]
    return f"{before}{begin}\n\n{_body(content, name, more, lang)}\n\n{end}{after}"


def _body(content: Run | Selfcheck | Table, name: str, more: Sequence[Run | Selfcheck], lang: str) -> str:
    if more:
        runs = [one for one in (content, *more) if isinstance(one, Run)]
        path, view, selection = _parts(name)
        if view or len(runs) < 1 + len(more):
            raise OpbenchError(f"{path}: several documents are joined as runs without a view, got {name}")
        return _of_runs(runs, selection)
    if isinstance(content, Run):
        return _of_run(content, *_parts(name)[1:], lang)
    if isinstance(content, Selfcheck):
        from opbench.analyse.compare.runs import MINIMUM_EFFECT
        from opbench.statistics.power import quote

        return prose(quote(content, MINIMUM_EFFECT).sentence)
    return _of_table(content)


def table(contest: Contest, *others: Contest) -> Table:
    """The columns a reader of a README asks for: latency in both modes, params, MACs and FLOPs, peak memory.

    `others` are the same workload elsewhere: their latencies are columns beside those of the first.
    """
    first = contest.standings[0]
    timed = []
    for one in (contest, *others):
        modes = {standing.case.mode: standing for standing in one.standings}
        present = (modes[mode] for mode in ("inference", "training") if mode in modes)
        timed += [(standing, method) for standing in present for method in standing.methods]
    header = (
        "contender",
        *(
            f"{standing.case.device.upper()} {standing.case.mode} {RATIO.title}{tables.suffix(standing, method)}"
            for standing, method in timed
        ),
        *(tables.heading(name, first) for _, name in exact("readme")),
    )
    rows = []
    everyone = dict.fromkeys(contender for one in (contest, *others) for contender in one.contenders())
    for contender in everyone:
        row = next((row for one in (contest, *others) if (row := one.standings[0].row(contender))), None)
        ratios = (tables.latency_ratio(standing.row(contender), method) for standing, method in timed)
        figures = (_macs_and_flops(row) if of is MACS else tables.cell(of, row) for of, _ in exact("readme"))
        rows.append((contender, *ratios, *figures))
    notes = dict.fromkeys(tables.note(one.standings, "readme") for one in (contest, *others))
    return Table(header, tuple(rows), max(notes, key=len))


def fastest(chosen: Sequence[Contest]) -> Table:
    """The fastest contender of every workload and device, in inference and in training, against the baseline."""
    rows = []
    for contest in chosen:
        case = contest.case
        modes = {standing.case.mode: standing for standing in contest.standings}
        cells = (_fastest(modes.get(mode)) for mode in ("inference", "training"))
        place = ", ".join(filter(None, (case.workload, case.dtype, case.executed)))
        place += "" if case.spread is None else f", spread {case.spread:g} px"
        rows.append((case.task, place, contest.baseline, case.device.upper(), *cells))
    note = "Latency against the baseline, with its 95 % interval: below 1x is faster."
    header = ("task", "workload", "baseline", "device", "fastest in inference", "fastest in training")
    return Table(header, tuple(rows), note, names=(0, 1, 2))


def _fastest(standing: Standing | None) -> str:
    if standing is None:
        return "not planned"
    method = standing.methods[0] if standing.methods else ""
    timed = [(found.value, row) for row in standing.rows if (found := row.timing(method).ratio)]
    if not timed:
        return "not timed"
    _, row = min(timed, key=lambda pair: pair[0])
    return f"{row.case.contender} {tables.latency_ratio(row, method)}"


def _parts(name: str) -> tuple[str, str, str]:
    """The document, the view and the selection that a marker's name holds."""
    path, _, selection = name.partition("#")
    path, _, view = path.partition("?")
    return path, view, selection


def _of_runs(runs: Sequence[Run], selection: str) -> str:
    """The tables of several runs, one for each workload that any of them measured, in the order of the first."""
    found: dict[tuple[object, ...], list[Contest]] = {}
    for run in runs:
        for contest in contests(standings(run)):
            case = contest.case
            if _selected(contest.id, selection):
                dims = tuple(sorted(case.dims.items()))
                place = (case.task, case.workload, dims, case.dtype, case.executed, case.spread)
                found.setdefault(place, []).append(contest)
    if not found:
        raise OpbenchError(f"no panel of these runs begins with {selection!r}")
    generated = [(table(*group), group) for group in found.values()]
    blocks = []
    for built, group in generated:
        devices = " and ".join(dict.fromkeys(contest.case.device for contest in group))
        blocks += [f"**{prose(markdown.title(group[0], devices))}**", built.markdown()]
    blocks += [prose(note) for note in dict.fromkeys(built.note for built, _ in generated)]
    return "\n\n".join([*blocks, *map(_measured_on, runs)])


def _of_run(run: Run, view: str, selection: str, lang: str) -> str:
    if view == "targets":
        return f"{_of_table(targets(run))}\n\n{_measured_on(run)}"
    if view == "claims":
        return f"{_of_table(claims([run]))}\n\n{_measured_on(run)}"
    if view not in ("", "fastest", "answer"):
        raise OpbenchError(nearest("view of a run", view, ("targets", "claims", "fastest", "answer")))
    held = standings(run)
    every = contests(held)
    chosen = [contest for contest in every if _selected(contest.id, selection)]
    if not chosen:
        ids = [contest.id for contest in every]
        close = difflib.get_close_matches(selection, ids, n=1, cutoff=0.0)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise OpbenchError(f"no panel of this run begins with {selection!r}{hint} (known: {', '.join(ids) or 'none'})")
    if view == "answer":
        spoken_of = [standing for contest in chosen for standing in contest.standings]
        return "\n".join(f"- {prose(said)}" for said in answer(spoken_of, lang, held=held))
    if view == "fastest":
        return f"{_of_table(fastest(chosen))}\n\n{_measured_on(run)}"
    generated = [table(contest) for contest in chosen]
    blocks = []
    for contest, built in zip(chosen, generated, strict=True):
        blocks += [f"**{prose(markdown.title(contest))}**", built.markdown()]
    blocks += [prose(note) for note in dict.fromkeys(built.note for built in generated)]
    return "\n\n".join([*blocks, _measured_on(run)])


def _measured_on(run: Run) -> str:
    where = run.environment
    return (
        f"Measured on {prose(where.gpu or where.cpu)} ({counted(where.threads, 'thread')}), torch "
        f"{prose(where.versions.get('torch', 'unknown'))}, suite {prose(run.settings.suite)}, {prose(run.started)}."
    )


def _of_table(content: Table) -> str:
    return content.markdown() + (f"\n\n{prose(content.note)}" if content.note else "")


def _selected(identity: str, selection: str) -> bool:
    return not selection or identity == selection or identity.startswith(selection.rstrip("/") + "/")


def _macs_and_flops(row: Row | None) -> str:
    macs = MACS.of(row.record if row else None)
    return tables.cell(MACS, row) if macs is None else f"{numbers.macs(macs)} / {numbers.macs(2 * macs)}"
