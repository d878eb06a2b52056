"""What changed from each run to the next of its suite and machine: the regression gate's own answer, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opbench.analyse.compare.runs import compare
from opbench.analyse.history.digest import machine_key
from opbench.report.comparison import explanations, lines, tally
from opbench.report.dashboard.columns import Columns, Strings, number
from opbench.schema import OpbenchError, Run

# A comparison takes some 20 ms for a hundred cases; older pairs can be asked of `opbench compare`.
MOST_PAIRS = 150


def differences(runs: Sequence[Run], strings: Strings) -> dict[str, Any]:
    """{pairs, lines}: runs oldest first, each with the one before it. Findings that are the same are counted only."""
    pairs: list[dict[str, Any]] = []
    findings = Columns()
    for base, head in _neighbours(runs)[-MOST_PAIRS:]:
        try:
            found = compare(runs[base], runs[head])
        except OpbenchError as error:
            pairs.append({"base": base, "head": head, "tally": strings.add(str(error)), "notes": [], "bad": 0})
            continue
        times = {(row.case.contender, row.case.panel_id, time.method): time for row in found.rows for time in row.times}
        for line in lines(found):
            if line.verdict == "same":
                continue
            time = times.get((line.contender, line.panel, line.what))
            findings.append(
                pair=len(pairs),
                contender=strings.name(line.contender),
                panel=strings.name(line.panel),
                what=strings.name(line.what),
                change=strings.add(line.change),
                verdict=strings.add(line.verdict),
                absolute=strings.add(line.absolute),
                ratio=number(time.ratio if time else None),
                low=number(time.low if time else None),
                high=number(time.high if time else None),
            )
        pairs.append(
            {
                "base": base,
                "head": head,
                "tally": strings.add(tally(found)),
                "notes": [strings.add(note) for note in explanations(found)],
                "bad": int(found.regressed),
            }
        )
    return {"pairs": pairs, "lines": findings.built()}


def _neighbours(runs: Sequence[Run]) -> list[tuple[int, int]]:
    last: dict[object, int] = {}
    pairs = []
    for place, run in enumerate(runs):
        key = (machine_key(run.environment), run.settings.suite)
        if key in last:
            pairs.append((last[key], place))
        last[key] = place
    return pairs
