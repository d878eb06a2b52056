"""Claims that a run document decides: latency by its interval, peak memory, and what a counter saw.

A claim speaks of an operator wherever it is used, so every panel that has both sides is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from opbench.analyse.claims.nouns import Claim, Decision, Document, Finding, everywhere, times
from opbench.analyse.standings import Row, Standing
from opbench.schema import Counted
from opbench.statistics.ratios import FEWEST_ROUNDS


class Seen(msgspec.Struct, frozen=True):
    """What one panel says: a quotient, in words too, and what it means for the claim."""

    value: float
    words: str
    verdict: Decision


Look = Callable[[Claim, str, Standing], Iterator[Seen]]


def latency(claim: Claim, baseline: str, given: Sequence[Document]) -> Finding:
    """The subject's latency over the baseline's, in every panel in inference that timed both."""
    return _across(claim, baseline, given, "latency", _latency)


def memory(claim: Claim, baseline: str, given: Sequence[Document]) -> Finding:
    """The subject's peak memory above inputs and parameters over the baseline's, in inference."""
    return _across(claim, baseline, given, "peak memory", _memory)


def counter(claim: Claim, baseline: str, given: Sequence[Document]) -> Finding:
    """The share of the closed form's MACs that a counter without our formulas saw, in inference."""
    return _across(claim, baseline, given, "MACs that the counter sees", _counter)


def _across(claim: Claim, baseline: str, given: Sequence[Document], what: str, look: Look) -> Finding:
    """Every panel asked; the sentence names the smallest and the largest quotient."""
    seen, documents = [], []
    for run, held in ((one.run, one.standings) for one in given):
        of_task = (s for s in held if s.case.task == claim.task and s.case.mode == "inference")
        panels = [s for s in of_task if not s.case.executed]
        found = [one for standing in panels for one in look(claim, baseline, standing)]
        if found:
            documents.append(f"suite {run.settings.suite}, {run.started}, {run.environment.gpu or run.environment.cpu}")
        seen += found
    if not seen:
        absent = f"no panel of the given documents has both {claim.subject} and {baseline}"
        return Finding(
            "undecided", "; ".join([absent if given else "no run document was given", *filter(None, [claim.why])])
        )
    verdicts = [one.verdict for one in seen]
    least, most = min(seen, key=lambda one: one.value), max(seen, key=lambda one: one.value)
    between = least.words if least is most else f"{least.words} to {most.words}"
    counts = ", ".join(f"{verdicts.count(name)} {said}" for name, said in _SAID if name in verdicts)
    panels_word = "panel" if len(seen) == 1 else "panels"
    return Finding(everywhere(verdicts), f"{what}: {between}; of {len(seen)} {panels_word} {counts}", tuple(documents))


_SAID: tuple[tuple[Decision, str], ...] = (("confirmed", "for"), ("refuted", "against"), ("undecided", "can't tell"))


def _latency(claim: Claim, baseline: str, standing: Standing) -> Iterator[Seen]:
    ours, theirs = _fastest(claim.subject, standing), _fastest(baseline, standing)
    found = standing.between(ours, theirs) if ours and theirs else ""
    if isinstance(found, str):
        return
    few = found.rounds < FEWEST_ROUNDS  # such an interval misses the median too often to decide anything
    words = f"{ours} {times(found.value)} [{found.low:.3g}, {found.high:.3g}] of {theirs} ({standing.case.workload})"
    yield Seen(found.value, words, "undecided" if few else claim.holds(found.low, found.high))


def _memory(claim: Claim, baseline: str, standing: Standing) -> Iterator[Seen]:
    peaks = []
    for name in (claim.subject, baseline):
        row = standing.row(name)
        memory = row.record.memory if row and row.record and row.outcome == "ok" else None
        peaks.append(memory.peak_bytes if memory and not memory.predicted else None)
    ours, theirs = peaks
    if ours is None or not theirs:
        return
    words = f"{times(ours / theirs)} ({ours:,} against {theirs:,} bytes, {standing.case.workload})"
    yield Seen(ours / theirs, words, claim.holds(ours / theirs, ours / theirs))


def _counter(claim: Claim, baseline: str, standing: Standing) -> Iterator[Seen]:
    row = standing.row(claim.subject)
    counts = row.record.counts if row and row.record else None
    seen: Counted | None = getattr(counts, _COUNTERS[baseline]) if counts else None
    if counts is None or seen is None or seen.macs is None or not counts.macs:
        return
    share = seen.macs / counts.macs
    yield Seen(share, f"{100 * share:.3g} % ({standing.case.workload})", claim.holds(share, share))


_COUNTERS = {"stock torch counter": "stock_torch", "stock fvcore": "stock_fvcore"}


def _fastest(name: str, standing: Standing) -> str | None:
    """A contender as it is named; of an operator, its fastest implementation in this panel."""
    if name.endswith("]"):
        return name
    timed = [row for row in standing.rows if row.case.operator == name and _seconds(row, standing) is not None]
    return min(timed, key=lambda row: _seconds(row, standing) or 0.0).case.contender if timed else None


def _seconds(row: Row, standing: Standing) -> float | None:
    method = standing.methods[0] if standing.methods else ""
    found = row.timing(method).latency
    return found.median_seconds if found else None
