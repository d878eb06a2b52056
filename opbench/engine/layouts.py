"""The layout floor, which a selfcheck measures beside its trials.

Two fresh processes of this very code, timed in turns as `compare --paired` times two revisions, differ by where each
laid its code and its heap and on which cores its threads began. Every contender of the smoke suite is timed so in each
pair; `opbench.statistics.layout` makes a floor of it, by kind of contender.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import opbench
from opbench import plan, registry, suites
from opbench.engine.paired import measure_paired
from opbench.engine.revisions import Revision
from opbench.schema import LayoutTrial, Plan, Run, Settings
from opbench.statistics.layout import kind_of

SUITE = "smoke"
# Seconds of a case in a pair of processes: some eighty rounds of two blocks of a millisecond.
CASE_SECONDS = 0.25
PRECISION = 0.005


def planned() -> Plan:
    """The contenders whose processes are held beside each other: on the CPU, in inference."""
    registry.load()
    return plan.plan(suites.load(SUITE), {"device": ("cpu",), "mode": ("inference",)}, cuda=False)


def layouts(
    laid_out: Plan, pairs: int, *, threads: int, seed: int, command: str, progress: Callable[[int], None]
) -> tuple[LayoutTrial, ...]:
    """So many pairs of fresh processes of this code; `progress` counts cases of pairs. Disturbed ones are left out."""
    here = Revision(Path(opbench.__file__).parents[1].resolve(), None, None)
    settings = Settings(SUITE, PRECISION, CASE_SECONDS * pairs, seed=seed, replicas=pairs)
    base, head = measure_paired(
        here,
        here,
        laid_out,
        settings,
        threads=threads,
        command=command,
        progress=lambda done, total, name: progress(done),
    )
    return tuple(trials(base, head))


def trials(base: Run, head: Run) -> Iterator[LayoutTrial]:
    """The rounds of both documents, case by case and process by process, in nanoseconds of a call."""
    for ours, theirs in zip(base.records, head.records, strict=True):
        if ours.outcome != "ok" or theirs.outcome != "ok":
            continue
        kind = kind_of(ours.counts.dispatched if ours.counts else None)
        for first, second in zip(ours.latencies, theirs.latencies, strict=True):
            for process, rounds in enumerate(zip(first.samples_seconds, second.samples_seconds, strict=True)):
                left_out = first.left_out[process] if first.left_out else ()
                if len(left_out) < len(rounds[0]):
                    one, other = (tuple(round(1e9 * value, 1) for value in side) for side in rounds)
                    yield LayoutTrial(ours.case.id, kind, process, one, other, left_out)
