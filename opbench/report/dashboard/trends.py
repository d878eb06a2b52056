"""Series over runs as columns: levels, steps, spikes, and the versions that changed between two runs of a machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opbench.analyse.compare.environments import differences
from opbench.analyse.history.digest import Digest
from opbench.analyse.history.series import TIMED, RunFigure, Series, series
from opbench.quantities import Quantity, published
from opbench.report import numbers
from opbench.report.dashboard.columns import Strings, number

_OF = {key: of for of, key in published("digest")}


def trends(
    digests: Sequence[Digest], places: Mapping[str, int], labels: Mapping[str, str], strings: Strings
) -> dict[str, Any]:
    """{moments, series} of digests, oldest first; `places` are those of the runs that the page knows, by hash.

    A series is of one suite: another one measures with other settings. A series of one point is no trend, a count that
    never changed is no news, and a baseline's ratio to itself is no figure: none is in the page.
    """
    moment_of = {one.sha256: index for index, one in enumerate(digests)}
    by_suite: dict[str, list[Digest]] = {}
    for digest in digests:
        by_suite.setdefault(digest.suite, []).append(digest)
    shown = [
        (suite, one)
        for suite, own in by_suite.items()
        if len(own) > 1
        for one in series(own)
        if len(one.points) > 1
        and (one.quantity in TIMED or one.changes)
        and not (one.quantity == "ratio" and one.case.contender == one.baseline)
    ]
    return {
        "moments": [
            {
                "run": places.get(one.sha256, -1),
                "suite": strings.name(one.suite),
                "machine": strings.name(labels[one.machine]),
                "started": strings.name(one.started),
                "commit": strings.name(one.environment.commit or ""),
                "dirty": int(bool(one.environment.dirty)),
                "changed": [strings.add(what) for what in changed],
            }
            for one, changed in zip(digests, _changed(digests), strict=True)
        ],
        "series": [_series(suite, one, moment_of, labels, strings) for suite, one in shown],
    }


def _changed(digests: Sequence[Digest]) -> list[tuple[str, ...]]:
    """What differs in versions from the run before on the same machine: the markers of a trend."""
    last: dict[str, Digest] = {}
    found = []
    for one in digests:
        before = last.get(one.machine, one)
        found.append(
            tuple(
                what
                for difference in differences(before.environment, one.environment)
                if difference.kind == "versions"
                for what in difference.what
            )
        )
        last[one.machine] = one
    return found


def _series(
    suite: str, one: Series, moment_of: Mapping[str, int], labels: Mapping[str, str], strings: Strings
) -> dict[str, Any]:
    case, of = one.case, _OF[one.quantity]
    return {
        "case": strings.name(case.id),
        "suite": strings.name(suite),
        "contender": strings.name(case.contender),
        "operator": strings.name(case.operator),
        "task": strings.name(case.task),
        "workload": strings.name(case.workload),
        "dtype": strings.add(case.dtype),
        "device": strings.add(case.device),
        "mode": strings.add(case.mode),
        "machine": strings.name(labels[one.machine]),
        "quantity": strings.add(one.quantity),
        "method": strings.name(one.method),
        "baseline": strings.name(one.baseline),
        "redefined": one.redefined,
        "at": [moment_of[point.sha256] for point in one.points],
        "value": [number(point.value) for point in one.points],
        "low": [number(point.low) for point in one.points] if of.timed else [],
        "high": [number(point.high) for point in one.points] if of.timed else [],
        "text": [strings.add(_text(point, of)) for point in one.points],
        "spikes": list(one.spikes),
        "undecided": list(one.undecided),
        "steps": [
            {
                "at": change.at,
                "before": number(change.before),
                "after": number(change.after),
                "ratio": number(change.ratio),
                "text": strings.add(f"{numbers.figure(of, change.before)} -> {numbers.figure(of, change.after)}"),
                "share": strings.add(_share(change.ratio)),
                "with": strings.add(", ".join(change.surroundings)),
            }
            for change in one.changes
        ],
    }


def _text(point: RunFigure, of: Quantity) -> str:
    value = numbers.figure(of, point.value, point.missing)
    if point.value is None or point.low is None or point.high is None:
        return value
    return f"{value} [{numbers.figure(of, point.low)}, {numbers.figure(of, point.high)}]"


def _share(ratio: float | None) -> str:
    """A step as a change: `+12.3 %`, `5.10x`."""
    if ratio is None:
        return "from or to nothing"
    return f"{numbers.plain(ratio)}x" if ratio > 3 or ratio < 1 / 3 else f"{100 * (ratio - 1):+.1f} %"
