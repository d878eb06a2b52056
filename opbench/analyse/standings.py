"""How the contenders of each panel stand against their baseline: the run document joined into one row per case.

Every planned case has a row. A case without a record (the run was cut short) stands as `not-run`, and a record
without a panel is kept too, in a panel of its own without a baseline.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from opbench.schema import Case, Latency, Panel, Record, Run
from opbench.statistics.ratios import Quartiles, Ratio, quartiles, ratio

NOT_RUN = "not-run"
NOT_PLANNED = "not planned"


class Timing(msgspec.Struct, frozen=True, gc=False):
    """One timing method of one case. Where `ratio` or `latency` is None, `missing` names the reason."""

    method: str
    latency: Quartiles | None
    ratio: Ratio | None
    missing: str = ""


class Row(msgspec.Struct, frozen=True):
    """One case and what became of it; `outcome` is the record's, or `not-run`."""

    case: Case
    is_baseline: bool
    outcome: str
    record: Record | None
    timings: tuple[Timing, ...] = ()

    @property
    def message(self) -> str:
        """What the failure said, or an empty text."""
        return self.record.message if self.record else ""

    def timing(self, method: str) -> Timing:
        """The timing of one method; a method this case lacks is a `Timing` that says why."""
        for timing in self.timings:
            if timing.method == method:
                return timing
        return Timing(method, None, None, "not timed" if self.outcome == "ok" else self.outcome)


class Standing(msgspec.Struct, frozen=True):
    """One panel: its rows in the order planned, and the timing methods that any of them was measured with."""

    panel: Panel
    rows: tuple[Row, ...]
    methods: tuple[str, ...]

    @property
    def case(self) -> Case:
        """Any case of the panel: what they all share can be read from it."""
        return self.rows[0].case

    @property
    def sizes(self) -> str:
        """Dimensions and settings in words: `N=1 C=256 H=20 W=20 k_up=5`."""
        return " ".join(f"{name}={value}" for name, value in self.panel.sizes.items())

    def row(self, contender: str) -> Row | None:
        """The row of one contender, None where it is not in this panel."""
        return next((row for row in self.rows if row.case.contender == contender), None)

    def ratio(self, row: Row) -> Ratio | None:
        """A row's ratio to the baseline by the panel's first timing method."""
        return row.timing(self.methods[0]).ratio if self.methods else None

    def sampled(self, row: Row) -> Latency | None:
        """A row's raw samples by the panel's first timing method."""
        latencies = row.record.latencies if row.record else ()
        return next((latency for latency in latencies if latency.method in self.methods[:1]), None)

    def between(self, contender: str, other: str) -> Ratio | str:
        """The latency of one contender over another's, in the same rounds; or why there is none."""
        pair = []
        for name in (other, contender):
            row = self.row(name)
            if row is None or row.outcome != "ok":
                return f"{name} {row.outcome if row else 'is not in this panel'}"
            pair.append(self.sampled(row))
        theirs, ours = pair
        found = ratio(ours, theirs) if ours and theirs else None
        return found or "no paired round"

    def ranked(self) -> tuple[Row, ...]:
        """The baseline, then from fastest to slowest by the first timing method; those without a ratio last."""
        method = self.methods[0] if self.methods else ""

        def place(row: Row) -> tuple[bool, bool, float]:
            found = row.timing(method).ratio
            return (not row.is_baseline, found is None, found.value if found else 0.0)

        return tuple(sorted(self.rows, key=place))


class Contest(msgspec.Struct, frozen=True):
    """The panels that differ only in mode: inference and training of one workload, dtype, device and spread."""

    id: str
    source: str
    baseline: str
    standings: tuple[Standing, ...]

    @property
    def case(self) -> Case:
        """Any case of the contest."""
        return self.standings[0].case

    def contenders(self) -> tuple[str, ...]:
        """All contenders, ranked by the first panel they appear in."""
        return tuple(dict.fromkeys(row.case.contender for standing in self.standings for row in standing.ranked()))


def standings(run: Run) -> tuple[Standing, ...]:
    """Every panel of the run with a row for every planned case and every record."""
    records = {record.case.id: record for record in run.records}
    planned = {case.id for panel in run.panels for case in panel.cases}
    panels = [*run.panels, *_unplanned([record.case for record in run.records if record.case.id not in planned])]
    return tuple(_stand(panel, records) for panel in panels if panel.cases)


def contests(standings: Sequence[Standing]) -> tuple[Contest, ...]:
    """The panels grouped by everything but the mode, in the order of the run."""
    groups: dict[str, list[Standing]] = {}
    for standing in standings:
        groups.setdefault(_without_mode(standing.case), []).append(standing)
    return tuple(
        Contest(id=name, source=group[0].panel.source, baseline=group[0].panel.baseline, standings=tuple(group))
        for name, group in groups.items()
    )


def _without_mode(case: Case) -> str:
    before = f"{case.task}/{case.workload}/{case.dtype}/{case.device}"
    return before + case.panel_id.removeprefix(f"{before}/{case.mode}")


def _unplanned(cases: list[Case]) -> list[Panel]:
    by_id: dict[str, list[Case]] = {}
    for case in cases:
        by_id.setdefault(case.panel_id, []).append(case)
    return [Panel(id=name, source="", baseline="", cases=tuple(group)) for name, group in by_id.items()]


def _stand(panel: Panel, records: dict[str, Record]) -> Standing:
    planned = next((case for case in panel.cases if case.contender == panel.baseline), None)
    baseline = records.get(planned.id) if planned else None
    absent = "no baseline" if not panel.baseline else f"baseline {NOT_RUN if planned else NOT_PLANNED}"
    rows = tuple(_row(case, records.get(case.id), panel, baseline, absent) for case in panel.cases)
    methods = dict.fromkeys(timing.method for row in rows for timing in row.timings)
    return Standing(panel, rows, tuple(methods))


def _row(case: Case, record: Record | None, panel: Panel, baseline: Record | None, absent: str) -> Row:
    is_baseline = case.contender == panel.baseline
    if record is None:
        return Row(case, is_baseline, NOT_RUN, None)
    # Only an `ok` case is timed as a number to quote: a wrong answer or a throttled clock has no latency.
    latencies = record.latencies if record.outcome == "ok" else ()
    return Row(
        case, is_baseline, record.outcome, record, tuple(_timing(latency, baseline, absent) for latency in latencies)
    )


def _timing(latency: Latency, baseline: Record | None, absent: str) -> Timing:
    absolute = quartiles(latency)
    if absolute is None:
        return Timing(latency.method, None, None, "no usable sample")
    if baseline is None or baseline.outcome != "ok":
        return Timing(latency.method, absolute, None, f"baseline {baseline.outcome}" if baseline else absent)
    theirs = next((other for other in baseline.latencies if other.method == latency.method), None)
    if theirs is None:
        return Timing(latency.method, absolute, None, f"baseline has no {latency.method}")
    value = ratio(latency, theirs)
    return Timing(latency.method, absolute, value, "" if value else "no paired round")
