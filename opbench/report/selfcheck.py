"""What this machine can tell apart, as a table and a chart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from opbench.analyse.compare.runs import MINIMUM_EFFECT
from opbench.plural import counted
from opbench.report import numbers
from opbench.report.drawing import STYLE, WIDTH
from opbench.report.escape import block, prose, visible
from opbench.report.fitted import FittedTable
from opbench.report.marks import PALETTE, SHAPES
from opbench.report.table import Table
from opbench.schema import Selfcheck
from opbench.statistics.layout import floors
from opbench.statistics.power import OURS, Power, Share, allowance, disturbed, powers, sensitivity

HEADINGS = ("method", "code", "load", "called", "95 % interval of the rate", "undecided", "median time")
_LOADS = {None: "both", False: "quiet", True: "one core loaded"}


def summary(selfcheck: Selfcheck) -> FittedTable:
    """What rich prints."""
    return _table(selfcheck, MINIMUM_EFFECT).rich()


def _table(selfcheck: Selfcheck, minimum_effect: float) -> Table:
    rows = tuple(map(_cells, powers(selfcheck, minimum_effect)))
    return Table(HEADINGS, rows, title="What this machine can tell apart", names=())


def markdown(selfcheck: Selfcheck, minimum_effect: float = MINIMUM_EFFECT) -> str:
    """The document as tables; the same document gives the same bytes."""
    where = selfcheck.environment
    threads = counted(where.threads, "thread")
    torch = prose(where.versions.get("torch", "unknown"))
    parts = [
        "# Selfcheck",
        f"{prose(where.cpu)}, {where.cores} cores, {threads}, torch {torch}, {prose(selfcheck.started)}.",
        "Two contenders side by side in one process; each trial is judged alone. *Called*: identical code said to be "
        "faster or slower (a false alarm), or slowed-down code said to be slower (a find). opbench calls a change "
        f"where the 95 % interval lies beyond {100 * minimum_effect:g} %; undecided is neither. A rival has as much "
        "time for a pair as opbench took.",
        _table(selfcheck, minimum_effect).markdown(),
        "\n".join(f"- {sentence}" for sentence in _sentences(selfcheck, minimum_effect)),
        "![shares called](selfcheck.svg)",
        block([selfcheck.command]),
    ]
    return "\n\n".join(parts) + "\n"


def _cells(power: Power) -> tuple[str, ...]:
    code = f"{100 * power.effect:g} % slower" if power.effect else "identical"
    return (
        power.method,
        code,
        _LOADS[power.loaded],
        _share(power.called),
        f"{_percent(power.called.low)} to {_percent(power.called.high)}",
        _share(power.undecided) if power.method == OURS else "-",
        f"{power.median_seconds:.2f} s",
    )


def _share(share: Share) -> str:
    return f"{share.hits} of {share.of} ({_percent(share.rate)})"


def _percent(rate: float) -> str:
    return "none" if math.isnan(rate) else f"{100 * rate:.1f} %"


def _sentences(selfcheck: Selfcheck, minimum_effect: float) -> Iterator[str]:
    for loaded, words in ((False, "quiet"), (True, "one core loaded")):
        found = sensitivity(selfcheck, minimum_effect, loaded)
        if found:
            yield (
                f"Smallest slow-down that is found 9 times in 10, {words}: {100 * found.median:.1f} % in the median "
                f"trial, {100 * found.most:.1f} % in nine of ten trials."
            )
    moves = allowance(selfcheck)
    if moves:
        yield (
            f"From process to process the ratio of two contenders moves by {100 * moves.deviation:.2f} % (standard "
            f"deviation, {moves.freedom:.0f} degrees of freedom): what runs of a single process are allowed for."
        )
    known = floors(selfcheck)
    if known:
        each = "; ".join(f"{floor.kind} {100 * floor.deviation:.2g} % ({floor.pairs})" for floor in known.values())
        yield (
            "Layout floor: fresh processes of identical code differ by so much (root mean square, of so many pairs), "
            f"by what a call sends through torch's dispatcher: {each}. A change that is no larger is none."
        )
    if best := selfcheck.best:
        at_best = ", ".join(
            f"{name} {numbers.seconds(getattr(best, name))}" for name in ("integers", "copy", "product")
        )
        yield f"The probes at this machine's best, by which a run knows its phase: {at_best}."
    spoilt = sum(map(disturbed, selfcheck.trials))
    if spoilt:
        yield (
            f"{spoilt:,} of {len(selfcheck.trials):,} trials were disturbed: too few of their rounds came through "
            "whole. They count as undecided, and nothing else is of them."
        )
    timed = [trial for trial in selfcheck.trials if trial.effect is not None]
    if timed:
        rounds = sum(len(trial.first_nanoseconds) for trial in timed)
        lost = sum(len(trial.interrupted) for trial in timed)
        retaken = sum(trial.retaken for trial in timed)
        yield (
            f"{retaken:,} blocks were interrupted by another process and taken again; {lost:,} of {rounds:,} rounds "
            "stayed interrupted and were left out where others remained."
        )
        slowest = max(trial.seconds for trial in timed)
        yield f"The slowest trial took {slowest:.1f} s; the whole {selfcheck.wall_seconds:.0f} s."


def chart(selfcheck: Selfcheck, minimum_effect: float = MINIMUM_EFFECT) -> str:
    """Shares called against the planted slow-down, one line per method, quiet and loaded apart; SVG."""
    from opbench.report.charts import svg

    return svg(_spec(powers(selfcheck, minimum_effect)))


def _spec(found: Sequence[Power]) -> dict[str, Any]:
    names = list(dict.fromkeys(visible(power.method) for power in found))
    data: list[dict[str, Any]] = [
        {
            # Side by side, so that intervals at the same effect don't hide one another.
            "at": 100 * power.effect + 0.12 * (names.index(visible(power.method)) - (len(names) - 1) / 2),
            "method": visible(power.method),
            "slower": 100 * power.effect,
            "called": 100 * power.called.rate,
            "low": 100 * power.called.low,
            "high": 100 * power.called.high,
            "load": _LOADS[power.loaded],
        }
        for power in found
        if power.loaded is not None
    ]
    colour = {"field": "method", "type": "nominal", "scale": {"domain": names, "range": list(PALETTE[: len(names)])}}
    shape = {"field": "method", "type": "nominal", "scale": {"domain": names, "range": list(SHAPES[: len(names)])}}
    across = {
        "field": "at",
        "type": "quantitative",
        "axis": {"title": "planted slow-down, % (0: identical code)", "values": [0, 2, 5, 10]},
    }
    up = {"type": "quantitative", "axis": {"title": "called changed, % of trials"}, "scale": {"domain": [0, 100]}}
    panels = [
        {
            "title": load,
            "width": WIDTH,
            "height": 240,
            "data": {"values": [row for row in data if row["load"] == load]},
            "layer": [
                {
                    "mark": {"type": "rule", "strokeWidth": 1},
                    "encoding": {"x": across, "y": {"field": "low", **up}, "y2": {"field": "high"}, "color": colour},
                },
                {
                    "mark": {"type": "line", "strokeDash": [3, 3]},
                    "encoding": {"x": across, "y": {"field": "called", **up}, "color": colour},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
                    "encoding": {"x": across, "y": {"field": "called", **up}, "color": colour, "shape": shape},
                },
            ],
        }
        for load in dict.fromkeys(str(row["load"]) for row in data)
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": {
            "text": "What is called changed",
            "subtitle": ["bars: 95 % interval of the share; at 0: false alarms"],
            "fontSize": 15,
            "offset": 16,
        },
        "hconcat": panels,
        "background": "white",
        "padding": 12,
        "config": STYLE,
    }
