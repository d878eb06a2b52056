"""Whether rounds are all there: those of a panel pair up, stop where the rule says, and are left out for a reason."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from opbench.contributed.nouns import CheckedPart, Said, Sign, Submission, UncheckedPart
from opbench.engine.replicas import one_visit
from opbench.measure.disturbance import WAITED_SHARE_AT_MOST, enough
from opbench.measure.lanes import LEAST_ROUNDS, stopping_reason
from opbench.measure.phases import Phases
from opbench.measure.probes import Probe
from opbench.schema import Latency, Panel, ProbedPanel, Run

# Of the machine's best: probes are kept in whole nanoseconds.
MARGIN = 0.98


def paired(given: Submission) -> Iterator[Said]:
    """The baseline of a panel has every round, and the probes as many; who has fewer stopped where the rule says."""
    run, checked = given.run, 0
    probed = {(one.panel, one.process): one for one in run.probes}
    visit = one_visit(run.settings)
    for panel in run.panels:
        by_contender = _latencies(run, panel)
        for method in dict.fromkeys(method for _, method in by_contender):
            lanes = {name: one for (name, of), one in by_contender.items() if of == method}
            base = lanes.get(panel.baseline)
            if base is None:
                continue
            for process in range(len(base.samples_seconds)):
                checked += 1
                yield from _process(panel, lanes, base, process, probed.get((panel.id, process)), visit.precision)
    yield CheckedPart("rounds of panels", checked)


def _latencies(run: Run, panel: Panel) -> dict[tuple[str, str], Latency]:
    ids = {case.id: case.contender for case in panel.cases}
    return {
        (ids[record.case.id], latency.method): latency
        for record in run.records
        if record.case.id in ids and record.outcome == "ok"
        for latency in record.latencies
    }


def _process(
    panel: Panel,
    lanes: Mapping[str, Latency],
    base: Latency,
    process: int,
    probes: ProbedPanel | None,
    precision: float,
) -> Iterator[Said]:
    counts = {
        name: len(one.samples_seconds[process]) for name, one in lanes.items() if process < len(one.samples_seconds)
    }
    rounds, where = counts[panel.baseline], f"{panel.id}, process {process + 1}"
    if not rounds:
        return
    for name, count in counts.items():
        if count > rounds:
            yield Sign(
                "rounds", f"{where}, {name}", f"{count} rounds, and its baseline {rounds}: a round is all of them"
            )
    others = [count for name, count in counts.items() if name != panel.baseline]
    complete = len(counts) == len(panel.cases) and all(others)
    if complete and others and max(others) < rounds:
        yield Sign("rounds", where, f"the baseline has {rounds} rounds, and no contender more than {max(others)}")
    if probes is not None and len(probes.integers) != rounds and base.method == "cpu-wall":
        yield Sign("rounds", where, f"{len(probes.integers)} rounds were probed, and the baseline has {rounds}")
    if base.waited:  # which rounds counted towards a stop is not in the document
        return
    for name, latency in lanes.items():
        if name != panel.baseline and counts.get(name):
            said = _stopped(latency.samples_seconds[process], base.samples_seconds[process], precision)
            if said is not None and said != len(latency.samples_seconds[process]):
                yield Sign("rounds", f"{where}, {name}", f"{counts[name]} rounds, and the rule stops after {said}")
            elif said is None and counts[name] < rounds:
                yield Sign(
                    "rounds", f"{where}, {name}",
                    f"stopped after {counts[name]} of {rounds} rounds, where no rule stops it",
                )  # fmt: skip


def _stopped(ours: Sequence[float], theirs: Sequence[float], precision: float) -> int | None:
    """After which round the rule stops a contender; None where it has no reason yet."""
    logs: list[float] = []
    widths: list[float] = []
    for at, (one, other) in enumerate(zip(ours, theirs, strict=False), start=1):
        if math.isnan(one) or math.isnan(other):
            continue
        logs.append(math.log(one) - math.log(other))
        if stopping_reason(logs, widths, precision) is not None:
            return at
    return None


def undisturbed(given: Submission) -> Iterator[Said]:
    """Rounds in which a core was waited for are in no figure, and none is left out that has no reason."""
    run, watched, waited = given.run, 0, 0
    if run.settings.share_cpu:
        yield UncheckedPart("disturbed rounds", "the run let others have the cores (--share-cpu)")
        return
    probed = {(one.panel, one.process): one for one in run.probes}
    best = _best(run)
    for panel in run.panels:
        by_contender = _latencies(run, panel)
        for (name, method), latency in by_contender.items():
            base = by_contender.get((panel.baseline, method))
            for process, own in enumerate(latency.waited):
                theirs = base.waited[process] if base is not None and process < len(base.waited) else ()
                rounds = len(own)
                spoilt = {at for at in range(rounds) if _late(own, at) or _late(theirs, at)}
                out = set(latency.left_out[process]) if latency.left_out else set()
                where = f"{panel.id}/{name}, process {process + 1}"
                watched, waited = watched + rounds, waited + len(spoilt)
                if kept := sorted(spoilt - out):
                    yield Sign(
                        "disturbed", where,
                        f"{len(kept)} of {rounds} rounds in which a core was waited for are in its figures",
                    )  # fmt: skip
                if rounds and not enough(rounds - len(spoilt), rounds, LEAST_ROUNDS):
                    yield Sign("disturbed", where, f"ok, with {len(spoilt)} of {rounds} rounds disturbed")
                probes = probed.get((panel.id, process))
                if probes is not None and best is not None and latency.phase == "clear" and len(out) < rounds:
                    clear = _clear(probes, best)
                    if idle := [
                        at
                        for at in sorted(out - spoilt)
                        if at < len(clear) and clear[at] and not _near(own, theirs, at)
                    ]:
                        yield Sign(
                            "rounds", where, f"{len(idle)} of {rounds} rounds are left out, and nothing disturbed them"
                        )
    if not watched:
        yield UncheckedPart("disturbed rounds", "nothing was watched beside the samples")
        return
    if best is None and run.probes:
        yield UncheckedPart(
            "rounds left out for their phase", "they were told by a selfcheck that isn't in the document"
        )
    share = waited / watched
    yield CheckedPart(f"rounds that were watched; a core was waited for in {share:.1%}", watched)


def _late(waited: Sequence[int], at: int) -> bool:
    """Whether a block waited for longer than allowed, in thousandths of its time."""
    return at < len(waited) and waited[at] > 1000 * WAITED_SHARE_AT_MOST


def _near(own: Sequence[int], theirs: Sequence[int], at: int) -> bool:
    """At the very limit: thousandths don't tell on which side of it."""
    limit = round(1000 * WAITED_SHARE_AT_MOST)
    return own[at] == limit or (at < len(theirs) and theirs[at] == limit)


def _best(run: Run) -> Probe | None:
    """The fastest probes of the whole run; None where a selfcheck that isn't here may have known faster ones."""
    if not run.probes or run.environment.details.get("selfcheck", "none") != "none":
        return None
    found = [Phases(rounds=list(map(Probe, one.integers, one.copy, one.product))) for one in run.probes if one.integers]
    if not found:
        return None
    low = Probe(*map(min, zip(*(one.known_best() for one in found), strict=True)))
    return Probe(*(MARGIN * value for value in low))


def _clear(probes: ProbedPanel, best: Probe) -> list[bool]:
    rounds = [
        Probe(*(value or math.inf for value in row))
        for row in zip(probes.integers, probes.copy, probes.product, strict=True)
    ]
    return Phases(best, rounds).clear()
