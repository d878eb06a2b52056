"""A case's figures run by run, with the points where they changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from opbench.analyse.history.series import TIMED, LevelStep, RunFigure, Series, case_ids, series
from opbench.analyse.history.store import Store, moment
from opbench.errors import nearest
from opbench.plural import counted
from opbench.report import numbers
from opbench.report.escape import visible
from opbench.report.fitted import FittedTable
from opbench.report.json_answer import answer
from opbench.report.table import Table
from opbench.schema import OpbenchError
from opbench.statistics.change_points import LEAST

# A part of an id may name many cases; more tables than these are no answer.
MOST_CASES = 12
# Format history of `opbench history --json`:
#   1  first version
HISTORY_VERSION = 1


def shown(store: Store, case: str, last: int) -> Iterator[Text | FittedTable]:
    """The history of the cases that `case` names: tables with the newest `last` runs as rows, and sentences."""
    for name in _named(case, case_ids(store.digests)):
        found = series(store.digests, case=name)
        if not any(one.quantity == "ratio" for one in found):
            yield Text(visible(_never_timed(name, store)))
        for held in _by_machine(found):
            yield from _shown(held, last)


def _named(case: str, known: Sequence[str]) -> tuple[str, ...]:
    """The ids that `case` names: itself, or those that contain it."""
    if case in known:
        return (case,)
    found = tuple(name for name in known if case and case in name)
    if not found:
        raise OpbenchError(visible(nearest("case", case, known, MOST_CASES)))
    if len(found) > MOST_CASES:
        few = ", ".join(found[:3])
        raise OpbenchError(
            visible(
                f"{case!r} is part of {len(found)} case ids ({few}, ...): at most {MOST_CASES} are shown, give more"
            )
        )
    return found


def _never_timed(name: str, store: Store) -> str:
    """What became of a case that has no ratio in any run."""
    outcomes = [entry.outcome for one in store.digests for entry in one.entries if entry.case.id == name]
    return f"{name}: no latency ratio in {_runs(len(outcomes))}: {', '.join(dict.fromkeys(outcomes))}"


def _by_machine(found: Sequence[Series]) -> Iterator[list[Series]]:
    for machine in dict.fromkeys(one.machine for one in found):
        yield [one for one in found if one.machine == machine]


def _shown(held: Sequence[Series], last: int) -> Iterator[Text | FittedTable]:
    """One case on one machine: a table for each timing method, then what changed and what can't be told."""
    ratios = {one.method: one for one in held if one.quantity == "ratio"}
    seconds = {one.method: one for one in held if one.quantity == "seconds"}
    for method, ratio in ratios.items():
        yield _table(ratio, seconds[method], last).rich()
        for line in _sentences(ratio, last):
            yield Text(visible(line))
    for one in held:
        if one.quantity not in TIMED:
            yield from (Text(visible(_exact(one, change))) for change in one.changes)
    yield Text("")


def _table(ratio: Series, seconds: Series, last: int) -> Table:
    header = (
        "started",
        "commit",
        f"latency vs {visible(ratio.baseline, 40)}",
        f"latency, median ({visible(ratio.method, 20)})",
        "what happened",
    )
    # A case that was once planned with another baseline has more points of its seconds than of its ratio.
    absolute = {point.sha256: point for point in seconds.points}
    first = max(0, len(ratio.points) - last)
    rows = tuple(
        (_when(point), _commit(point), _ratio(point), _seconds(absolute.get(point.sha256)), _happened(ratio, index))
        for index, point in enumerate(ratio.points[first:], start=first)
    )
    styles = {
        (at, column): "bold" for at, row in enumerate(rows) if row[-1].startswith("step") for column in range(len(row))
    }
    title = f"{ratio.case.id} on {ratio.machine}"
    return Table(header, rows, title=title, numbers=(2, 3), unbroken=(0, 1), styles=styles)


def _when(point: RunFigure) -> str:
    found = moment(point.started)
    return found.strftime("%Y-%m-%d %H:%M") if found else visible(point.started, 16)


def _commit(point: RunFigure) -> str:
    return (point.commit or "unknown")[:12] + (" + edits" if point.dirty else "")


def _ratio(point: RunFigure) -> str:
    return numbers.ratio(point.ratio, point.missing)


def _seconds(point: RunFigure | None) -> str:
    return numbers.seconds(point.value if point else None)


def _happened(one: Series, index: int) -> str:
    for change in one.changes:
        if change.at == index:
            return f"step {_step(change)}"
    if index in one.undecided:
        return f"off its level: a spike or the start of a step, told after {LEAST} runs"
    return "spike" if index in one.spikes else ""


def _step(change: LevelStep) -> str:
    if change.ratio is None:
        return f"from {numbers.plain(change.before)} to {numbers.plain(change.after)}"
    also = f" (also changed: {', '.join(change.surroundings)})" if change.surroundings else ""
    return f"{100 * (change.ratio - 1):+.1f} %{also}"


def _sentences(one: Series, last: int) -> Iterator[str]:
    usable = sum(point.value is not None for point in one.points)
    if usable < 2 * LEAST:
        yield (
            f"{_runs(usable)} with a ratio: a step is told from noise by {LEAST} runs on either side of it, "
            f"so from {2 * LEAST} on"
        )
    else:
        yield f"{_counted(len(one.changes), 'step')} and {_counted(len(one.spikes), 'spike')} in {_runs(usable)}"
    if len(one.points) > last:
        yield f"shown are the newest {last} of {_runs(len(one.points))} (`--last` shows more)"
    if one.redefined:
        yield f"left out: {_runs(one.redefined)} in which the name stood for other dimensions or another baseline"


def _exact(one: Series, change: LevelStep) -> str:
    point = one.points[change.at]
    figures = f"{numbers.exactly(int(change.before))} -> {numbers.exactly(int(change.after))}"
    return f"{one.quantity.replace('_', ' ')} changed: {figures} at {_commit(point)} ({_when(point)})"


def _runs(count: int) -> str:
    return _counted(count, "run")


def _counted(count: int, what: str) -> str:
    return counted(count, what) if count else f"no {what}"


def history_json(store: Store, case: str, last: int) -> bytes:
    """The same for a program: each case's series, by machine and quantity, its newest `last` runs and what changed."""
    found = [one for name in _named(case, case_ids(store.digests)) for one in series(store.digests, case=name)]
    return answer(
        "history",
        HISTORY_VERSION,
        {"series": [_plain(one, last) for one in found], "problems": list(problems(store))},
    )


def _plain(one: Series, last: int) -> dict[str, object]:
    first = max(0, len(one.points) - last)
    return {
        "case": one.case.id,
        "machine": one.machine,
        "quantity": one.quantity,
        "method": one.method,
        "baseline": one.baseline,
        "points": [
            {
                "started": point.started,
                "commit": point.commit,
                "dirty": point.dirty,
                "suite": point.suite,
                "outcome": point.outcome,
                "value": point.value,
                "low": point.low,
                "high": point.high,
                "missing": point.missing,
                "spike": at in one.spikes,
                "undecided": at in one.undecided,
            }
            for at, point in enumerate(one.points[first:], start=first)
        ],
        "steps": [
            {
                "started": one.points[step.at].started,
                "commit": one.points[step.at].commit,
                "before": step.before,
                "after": step.after,
                "also_changed": list(step.surroundings),
            }
            for step in one.changes
        ],
        "redefined": one.redefined,
    }


def problems(store: Store) -> Iterator[str]:
    """A sentence for each file that can't be shown; of many, the first few and how many more."""
    for problem in store.problems[:5]:
        yield f"{problem.path}: {problem.sentence}"
    if len(store.problems) > 5:
        yield f"and {counted(len(store.problems) - 5, 'more file')} that can't be shown"
