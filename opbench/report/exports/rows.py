"""What every export of figures starts from: each case of a run once, under a name that is stable and inert."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

import msgspec

from opbench.analyse.standings import Row, Standing, standings
from opbench.report.escape import visible
from opbench.report.exports.selection import Selection
from opbench.schema import Case, Latency, OpbenchError, Run, Skipped

# Longer names are refused by some readers (Bencher: 1,024 characters).
LONGEST_NAME = 900


class ExportedCase(msgspec.Struct, frozen=True):
    """One recorded case: its place in its panel, and the `name` that it goes by outside."""

    name: str
    standing: Standing
    row: Row

    @property
    def case(self) -> Case:
        """The case itself."""
        return self.row.case

    def latency(self, method: str) -> Latency:
        """The raw samples of one timing method that the row has."""
        record = self.row.record
        return next(latency for latency in (record.latencies if record else ()) if latency.method == method)


class ExportedRun(msgspec.Struct, frozen=True):
    """A run, its recorded cases that were selected, in order, and of what was planned away the selected part.

    A ratio is to the baseline of the panel, whether that was selected or not.
    """

    run: Run
    cases: tuple[ExportedCase, ...]
    skipped: tuple[Skipped, ...]
    selection: Selection

    @property
    def passed(self) -> tuple[ExportedCase, ...]:
        """The cases that ended `ok`: formats without a way to say "failed" leave the others out, never as 0."""
        return tuple(one for one in self.cases if one.row.outcome == "ok")


def exported(run: Run, selection: Selection | None = None) -> ExportedRun:
    """The selected part of a run; without a selection all of it. Raises `OpbenchError` where two cases go by one name.

    The whole run is looked through for that: what an export holds must not depend on what else was asked for.
    """
    selection = selection or Selection()
    rows = ((standing, row) for standing in standings(run) for row in standing.rows if row.record is not None)
    found = {name: ExportedCase(name, standing, row) for standing, row in rows for name in [name_of(row.case)]}
    if len(found) != len(run.records):
        raise OpbenchError(
            f"the run document has {len(run.records)} records that go by {len(found)} names: "
            "an export could only keep one of each"
        )
    return ExportedRun(
        run,
        tuple(one for one in found.values() if selection.takes(one.case.id)),
        tuple(one for one in run.skipped if selection.takes(one.case)),
        selection,
    )


def name_of(case: Case) -> str:
    """The case's id on one line, without hidden characters; a very long one ends in a hash of all of it."""
    name = visible(case.id)
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}...{hashlib.sha256(case.id.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}"


def timed(one: ExportedCase) -> Iterator[tuple[str, str]]:
    """(name, method) of each timing: another timing method is another name, so that no series mixes two."""
    for timing in one.row.timings:
        yield f"{one.name} ({visible(timing.method, 80)})", timing.method


def finite(value: float | None) -> bool:
    """Whether a number can stand in a format that knows neither infinity nor NaN."""
    return value is not None and math.isfinite(value)


def as_json(value: Any) -> bytes:
    """JSON with one item a line, the same bytes each time; refuses NaN and infinity, which JSON has not."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "backslashreplace")
