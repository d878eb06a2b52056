"""What changed from one run to another, in two channels, and what could not be compared and why.

*Deterministic*: outcome, parameters, MACs, bytes and the dispatched operations. They are the same on every machine,
so any difference is a change. *Time*: the change of the ratio to the panel's baseline. Two runs are minutes or months
apart, and a machine that is 20 % slower that day is 20 % slower for the baseline too; the ratio of the ratios takes
that out. Absolute times stand beside it, never judged. Where both revisions were measured in turns in one run
(`compare --paired`), head / base of the same round is the change itself and no baseline is needed.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence

from opbench.analyse.compare.deterministic import exact_row
from opbench.analyse.compare.environments import differences
from opbench.analyse.compare.nouns import ComparedCase, ComparedRun, Comparison
from opbench.analyse.compare.time import timed_rows
from opbench.analyse.quality import quality, sentence
from opbench.schema import PAIRED, OpbenchError, Run
from opbench.statistics.change import Allowance
from opbench.statistics.layout import LayoutFloor

# Above what identical code has been seen to differ by once a round's order is random, and below half of the smallest
# planted slow-down that must be found (5 %): an interval of +-1 % around +5 % still lies beyond it.
MINIMUM_EFFECT = 0.02
# Taken where neither replicas nor a selfcheck with as many threads say how far processes differ. Two runs of `default`
# half an hour apart on a quiet machine, 2 threads: the ratios of 76 unchanged contenders moved by 6 % (root mean
# square), three of them by more than 15 %, so by 4 to 5 % from process to process.
ASSUMED = Allowance(0.045, 10.0, "assumed: `--replicas 3` measures it")


def compare(
    base: Run,
    head: Run,
    *,
    minimum_effect: float = MINIMUM_EFFECT,
    allowance: Allowance = ASSUMED,
    across: Collection[str] = (),
    allow: Collection[str] = (),
    selfcheck: str = "",
    floors: Mapping[str, LayoutFloor] | None = None,
) -> Comparison:
    """Compares two runs. Raises `OpbenchError` where they have no case in common.

    `across` names differences ("machine", "threads", "versions") to compare across all the same; `allow` names
    deterministic quantities whose change is meant. `floors`: how far fresh processes of identical code differ here, by
    kind of contender; less is no change.
    """
    ours = {record.case.id: record for record in base.records}
    theirs = {record.case.id: record for record in head.records}
    shared = [name for name in ours if name in theirs]
    if not shared:
        raise OpbenchError(
            f"nothing to compare: the runs have no case in common (base: {len(ours)} of suite "
            f"{base.settings.suite!r}, head: {len(theirs)} of suite {head.settings.suite!r}); compare runs of one suite"
        )
    found = differences(base.environment, head.environment)
    narrowed = {channel for one in found if one.kind not in across for channel in one.leaves_out}
    rows = [exact_row(ours[name], theirs[name], narrowed, allow) for name in shared]
    paired = PAIRED in base.environment.details and (
        base.environment.details[PAIRED] == head.environment.details.get(PAIRED)
    )
    if "time" not in narrowed:
        rows = timed_rows(
            rows,
            base,
            head,
            paired=paired,
            allowance=allowance,
            minimum_effect=minimum_effect,
            floors=floors or {},
        )
    alone = any(max(time.processes) == 1 for row in rows for time in row.times)
    return Comparison(
        base=_side(base),
        head=_side(head),
        paired=paired,
        minimum_effect=minimum_effect,
        allowance=allowance if alone else None,
        notes=(*(one.said(one.kind in across) for one in found), *_moved_together(rows), *_qualities(base, head)),
        rows=tuple(rows),
        only_in_base=tuple(name for name in ours if name not in theirs),
        only_in_head=tuple(name for name in theirs if name not in ours),
        selfcheck=selfcheck,
    )


def _side(run: Run) -> ComparedRun:
    where = run.environment
    return ComparedRun(where.commit, where.dirty, run.started, where.cpu, where.threads, run.settings.suite)


def _qualities(base: Run, head: Run) -> Iterator[str]:
    """Each run's own quality, where it was watched."""
    for name, run in (("base", base), ("head", head)):
        if said := sentence(quality(run)):
            yield f"{name}: {said}"


def _moved_together(rows: Sequence[ComparedCase]) -> Iterator[str]:
    """A baseline that got slower makes all others look faster: said where a whole panel moved one way."""
    by_panel: dict[str, list[float]] = {}
    for row in rows:
        for time in row.times[:1]:
            if time.decision in ("regressed", "improved"):
                by_panel.setdefault(row.case.panel_id, []).append(time.ratio)
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row.case.panel_id] = sizes.get(row.case.panel_id, 0) + bool(row.times)
    for panel, ratios in by_panel.items():
        one_way = all(ratio > 1 for ratio in ratios) or all(ratio < 1 for ratio in ratios)
        if one_way and len(ratios) == sizes[panel] >= 3:
            yield (
                f"{panel}: all {len(ratios)} contenders moved together, by {statistics.median(ratios):.3g}x: "
                "rather their baseline changed than all of them; see the absolute times"
            )
