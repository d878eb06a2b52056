"""Rows that were copied: no two blocks of calls take the same nanoseconds, sample after sample."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from opbench.contributed.nouns import CheckedPart, Said, Sign, Submission
from opbench.schema import Latency, Run

# A row of fewer distinct samples may be another's by chance.
LEAST_SAMPLES = 3
# Of a row's samples, found again in one other row: a copy of which some rounds were dropped or put in another order.
SHARED = 0.5
# Events of a GPU tell too few times apart: a replayed graph takes one of a hundred.
TOLD_APART = frozenset({"cpu-wall"})

# A record's place, a latency's, a process.
Row = tuple[int, int, int]


def copies(given: Submission) -> Iterator[Said]:
    """No process of a case has another's samples."""
    rows = dict(_rows(given.run))
    seen: dict[tuple[float, ...], Row] = {}
    holders: dict[float, list[Row]] = {}
    count = 0
    for row, (latency, samples) in rows.items():
        count += 1
        if len(set(samples)) < LEAST_SAMPLES:
            continue
        if (before := seen.setdefault(samples, row)) != row:
            yield Sign("copied", _name(given.run, row), f"every sample is that of {_name(given.run, before)}")
            continue
        if latency.method in TOLD_APART:
            shared = Counter(other for value in set(samples) for other in holders.get(value, ()))
            if shared and (most := shared.most_common(1)[0])[1] >= max(LEAST_SAMPLES, SHARED * len(set(samples))):
                yield Sign(
                    "copied", _name(given.run, row),
                    f"{most[1]} of {len(samples)} samples are those of {_name(given.run, most[0])}",
                )  # fmt: skip
            for value in set(samples):
                holders.setdefault(value, []).append(row)
    yield CheckedPart("rows that are no copies", count)


def _rows(run: Run) -> Iterator[tuple[Row, tuple[Latency, tuple[float, ...]]]]:
    for at, record in enumerate(run.records):
        for place, latency in enumerate(record.latencies):
            for process, samples in enumerate(latency.samples_seconds):
                yield (at, place, process), (latency, tuple(filter(math.isfinite, samples)))


def _name(run: Run, row: Row) -> str:
    at, place, process = row
    record = run.records[at]
    return f"{record.case.id}, {record.latencies[place].method}, process {process + 1}"
