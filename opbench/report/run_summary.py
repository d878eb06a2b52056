"""What `opbench run` says at its end, for a person or, with `--json`, for a program. The run document has it all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from opbench.analyse.standings import Row, Standing, standings
from opbench.analyse.targets import judge
from opbench.options import Loudness
from opbench.quantities import exact
from opbench.report import tables
from opbench.report.json_answer import answer
from opbench.report.lines import say, say_json
from opbench.report.screen import Screen, print_plan
from opbench.report.terminal import closing
from opbench.schema import Plan, Run

# Format history of `opbench run --json`, with `--dry-run` too:
#   1  first version
SUMMARY_VERSION = 1


def show_run(
    shown: Screen, run: Run, notes: Sequence[str], place: str, *, as_json: bool, loudness: Loudness, lang: str = "en"
) -> None:
    """What `opbench run` ends with: tables and where the report is, quietly the latter alone; or all as JSON.

    `place` is the folder, or the address, of the documents.
    """
    if as_json:
        say_json(run_summary_json(run, place))
        return
    if loudness != "quiet":
        shown.summary(run, lang)
    shown.line("\n".join((*(() if loudness == "quiet" else notes), f"report: {place}/report.md")))


def show_plan(shown: Screen, plan: Plan, notes: Sequence[str], *, as_json: bool) -> None:
    """What `--dry-run` prints: each panel with its contenders, each case that can't run with its reason."""
    if as_json:
        say_json(_plan_json(plan, notes))
        return
    print_plan(shown, plan)
    shown.line("\n".join(notes))


def say_broken(broken: Iterable[str]) -> None:
    """What couldn't be loaded in the process that planned; what this one couldn't load, every command says."""
    from opbench import registry

    for sentence in set(broken) - set(registry.broken_so_far()):
        say(f"opbench: {sentence}", error=True)


def run_summary_json(run: Run, place: str) -> bytes:
    """Each panel's contenders in the order of the terminal's tables; numbers in seconds, bytes and MACs, no text."""
    found = standings(run)
    return answer(
        "run-summary",
        SUMMARY_VERSION,
        {
            "suite": run.settings.suite,
            "run": f"{place}/run.json",
            "report": f"{place}/report.md",
            "outcomes": dict(Counter(row.outcome for standing in found for row in standing.rows)),
            "skipped": [{"case": one.case, "reason": one.reason} for one in run.skipped],
            "panels": [_panel(standing) for standing in found],
            "targets": list(_targets(run, found)),
            "conclusion": closing(run, found),
        },
    )


def _panel(standing: Standing) -> dict[str, object]:
    return {
        "panel": standing.panel.id,
        "baseline": standing.panel.baseline,
        "source": standing.panel.source,
        "contenders": [_contender(row, standing) for row in standing.ranked()],
    }


def _contender(row: Row, standing: Standing) -> dict[str, object]:
    return {
        "case": row.case.id,
        "contender": row.case.contender,
        "baseline": row.is_baseline,
        "outcome": row.outcome,
        "message": row.message,
        "verdict": tables.verdict(row),
        "latency": {method: _timing(row, method) for method in standing.methods},
        **{of.key: of.of(row.record) for of, _ in exact("terminal")},
    }


def _timing(row: Row, method: str) -> Mapping[str, object]:
    """Seconds with their quartiles, and the ratio to the baseline with its 95 % interval; None with why."""
    found = row.timing(method)
    seconds = found.latency
    ratio = found.ratio
    return {
        "seconds": [seconds.median_seconds, seconds.lower_seconds, seconds.upper_seconds] if seconds else None,
        "ratio": [ratio.value, ratio.low, ratio.high] if ratio else None,
        "missing": found.missing,
    }


def _targets(run: Run, found: tuple[Standing, ...]) -> Iterator[dict[str, object]]:
    for one in judge(run, found):
        yield {
            "panel": one.panel,
            "contender": one.contender or one.target.contender,
            "quantity": one.target.quantity,
            "at_least": one.target.at_least,
            "at_most": one.target.at_most,
            "measured": [one.value, one.low, one.high],
            "met": one.met,
            "missing": one.missing,
        }


def _plan_json(plan: Plan, notes: Sequence[str]) -> bytes:
    return answer(
        "plan",
        SUMMARY_VERSION,
        {
            "suite": plan.suite,
            "panels": [
                {"panel": one.id, "baseline": one.baseline, "cases": [case.id for case in one.cases]}
                for one in plan.panels
            ],
            "skipped": [{"case": one.case, "reason": one.reason} for one in plan.skipped],
            "notes": list(notes),
        },
    )
