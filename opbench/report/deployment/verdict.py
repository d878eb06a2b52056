"""What a deployment comes to, in sentences: its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from opbench.analyse.standings import Row, Standing, standings
from opbench.deploy.answer import title
from opbench.deploy.nouns import BAD_PROOFS, Deployment, DeviceProof
from opbench.report.numbers import ratio as shown_ratio
from opbench.schema import DEFAULT_RUNTIME, Run

# Of files that are wrong, before the rest is counted only.
MOST_NAMED = 3
# How the networks with a swap in them are called.
SWAPPED = "with-"


def verdict(answer: Deployment, run: Run | None) -> Iterator[str]:
    """What is wrong first, then the costs, runtime by runtime, then what was not tried."""
    yield from _proofs(answer)
    for standing in standings(run) if run else ():
        yield from _costs(answer.target, standing)
    if answer.definition.startswith("itself"):
        yield f"{answer.target} was held against {answer.definition}."
    for issue in answer.issues:
        yield f"{issue.runtime} was not tried here: {issue.sentence} ({', '.join(issue.sources)})."
    for one in answer.not_tried:
        yield f"Not tried: {one}."
    yield from _int8(answer)


def _proofs(answer: Deployment) -> Iterator[str]:
    bad = [one for one in answer.proofs if one.proof in BAD_PROOFS]
    for one in bad[:MOST_NAMED]:
        yield f"{one.file} is {_words(one)} in {title(one.runtime)}: {one.reason}."
    if len(bad) > MOST_NAMED:
        yield f"{len(bad) - MOST_NAMED} more files are not right: see the table."
    right = [one for one in answer.proofs if one.proof == "right"]
    for runtime in dict.fromkeys(one.runtime for one in answer.proofs):
        own = [one for one in answer.proofs if one.runtime == runtime]
        sound = [one for one in own if one in right]
        if sound:
            worst = max(at.worst_ratio or 0.0 for one in sound for at in one.at)
            files = "the file is" if len(own) == 1 else f"{len(sound)} of {len(own)} files are"
            yield f"In {title(runtime)} {files} right: at most {worst:.2g} of the error that rounding explains."
    for reason in dict.fromkeys(one.reason for one in answer.proofs if one.proof == "refused"):
        those = [one for one in answer.proofs if one.proof == "refused" and one.reason == reason]
        yield f"{title(those[0].runtime)} refuses {', '.join(dict.fromkeys(one.file for one in those))}: {reason}"
    for refusal in answer.refused:
        yield f"{refusal.contender} can't be written as {refusal.format}{_in(refusal.dtype)}: {refusal.reason}"


def _in(dtype: str) -> str:
    """` in float16`; float32 goes without saying."""
    return "" if dtype == "float32" else f" in {dtype}"


def _int8(answer: Deployment) -> Iterator[str]:
    yield f"{answer.int8}."
    for runtime, method in dict.fromkeys((one.runtime, one.method) for one in answer.quantised):
        own = [one for one in answer.quantised if (one.runtime, one.method) == (runtime, method)]
        figures = {one.contender: one.decibels for one in own if one.decibels is not None}
        if figures:
            told = ", ".join(f"{name} {figure:.1f} dB" for name, figure in figures.items())
            yield f"In int8 by {method}, {title(runtime)} keeps: {told}."
        for reason in dict.fromkeys(one.reason for one in own if one.decibels is None):
            those = ", ".join(one.contender for one in own if one.reason == reason)
            yield f"In int8 by {method}, {title(runtime)} has no figure of {those}: {reason}."


def _words(one: DeviceProof) -> str:
    return {"crashed": "crashing", "timed-out": "hanging"}.get(one.proof, one.proof)


def _costs(target: str, standing: Standing) -> Iterator[str]:
    if standing.case.across_runtimes:
        yield from _across(standing)
        return
    operators = dict.fromkeys(row.case.operator for row in standing.rows if not row.is_baseline)
    where = f"In {title(standing.case.runtime)}{_in(standing.case.dtype)}"
    for operator in operators:
        rows = [row for row in standing.rows if row.case.operator == operator and not row.is_baseline]
        timed = sorted(((found.value, at, found) for at, row in enumerate(rows) if (found := standing.ratio(row))))
        if not timed:
            outcomes = ", ".join(dict.fromkeys(row.outcome for row in rows))
            yield f"{where} {operator} has no latency ({outcomes})."
            continue
        _, at, found = timed[0]
        best = rows[at]
        graph = "" if best.case.implementation == "torch" else f" as {best.case.implementation}"
        swapped = operator.removeprefix(SWAPPED)
        subject = f"{target} with {swapped}{graph} costs" if swapped != operator else f"{operator}{graph} costs"
        others = "".join(_others(standing, best, rows))
        yield f"{where} {subject} {shown_ratio(found)} the time of {standing.panel.baseline}{others}."


def _others(standing: Standing, best: Row, rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row is best:
            continue
        found = standing.between(row.case.contender, best.case.contender)
        if isinstance(found, str):
            yield f"; {row.case.implementation} is {row.outcome} there"
        else:
            yield f"; {row.case.implementation} is right there and takes {shown_ratio(found)} the time of that"


def _across(standing: Standing) -> Iterator[str]:
    for row in standing.rows:
        found = standing.ratio(row)
        if row.is_baseline or found is None:
            continue
        where = title(row.case.runtime)
        inside = f" in {title(DEFAULT_RUNTIME)}" if row.case.runtime != DEFAULT_RUNTIME else ""
        taken = f"takes {shown_ratio(found)} the time of {standing.panel.baseline}{inside}"
        yield f"In {where}{_in(row.case.dtype)} {row.case.named} {taken}."
