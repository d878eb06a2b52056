"""What the fields of a run document say of each other: panels of one workload, verdicts behind outcomes, rounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opbench.documents.checks.flaws import Flaw, repeated
from opbench.schema import Case, Latency, Panel, Record, Run


def flaws(run: Run) -> Iterator[Flaw]:
    """Every contradiction of a run document, the panels' first."""
    planned: dict[str, Case] = {}
    for place, panel in enumerate(run.panels):
        yield from _panel(panel, f"$.panels[{place}]")
        planned.update((case.id, case) for case in panel.cases)
    for place in repeated(panel.id for panel in run.panels):
        yield Flaw(f"$.panels[{place}].id", "a panel that stood before")
    for place in repeated(record.case.id for record in run.records):
        yield Flaw(f"$.records[{place}].case", "a case that has a record already")
    for place, record in enumerate(run.records):
        path = f"$.records[{place}]"
        plan = planned.get(record.case.id)
        if plan is not None and plan != record.case:
            yield Flaw(f"{path}.case", "not the case that was planned under this id: its dimensions or settings differ")
        yield from _record(record, path)


def _panel(panel: Panel, path: str) -> Iterator[Flaw]:
    for place in repeated(case.id for case in panel.cases):
        yield Flaw(f"{path}.cases[{place}]", "a case that stood before")
    first = panel.cases[0] if panel.cases else None
    for place, case in enumerate(panel.cases):
        if case.panel_id != panel.id:
            yield Flaw(f"{path}.cases[{place}]", "a case of another panel: its workload, dtype, device or mode differs")
        elif first is not None and case.dims != first.dims:
            yield Flaw(f"{path}.cases[{place}].dims", "other dimensions than the panel's first case has")


def _record(record: Record, path: str) -> Iterator[Flaw]:
    for name in ("verdict", "final_verdict"):
        verdict = getattr(record, name)
        if verdict is None:
            continue
        if verdict.correct and verdict.worst_ratio > 1:
            yield Flaw(f"{path}.{name}", "correct, beside an error beyond its bound")
        if record.outcome == "ok" and not verdict.correct:
            yield Flaw(f"{path}.{name}", "not correct, beside the outcome ok")
    for place in repeated(latency.method for latency in record.latencies):
        yield Flaw(f"{path}.latencies[{place}].method", "a timing method that stood before")
    for place, latency in enumerate(record.latencies):
        yield from _latency(latency, f"{path}.latencies[{place}]")


def _latency(latency: Latency, path: str) -> Iterator[Flaw]:
    rounds = [len(samples) for samples in latency.samples_seconds]
    for name in ("sm_clock_mhz", "temperature_celsius", "waited"):
        beside: Sequence[Sequence[float]] = getattr(latency, name)
        if beside and [len(values) for values in beside] != rounds:
            yield Flaw(f"{path}.{name}", "not laid out as the samples are")
    if latency.left_out and len(latency.left_out) != len(rounds):
        yield Flaw(f"{path}.left_out", f"of {len(latency.left_out)} processes, expected {len(rounds)}")
    elif any(at >= count for out, count in zip(latency.left_out, rounds, strict=False) for at in out):
        yield Flaw(f"{path}.left_out", "a round that the samples don't have")
