"""Claims of papers and write-ups against what is counted, computed and measured: confirmed, refuted or undecided.

The claims are data (the TOML files of this folder); each names one of the measures below. A measure answers one claim
against one baseline, because the same saying is right of one rival and wrong of another.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from opbench import registry
from opbench.analyse.claims import computations, counts, runs
from opbench.analyse.claims.nouns import Answer, Claim, Document, Finding, Measure
from opbench.analyse.standings import standings
from opbench.errors import nearest
from opbench.schema import OpbenchError, Run

BUILT_IN = tuple(sorted(Path(__file__).parent.glob("*.toml")))

MEASURES: Mapping[str, Measure] = {
    "printed": counts.printed,
    "overhead": counts.overhead,
    "parameters": counts.parameters,
    "MACs": counts.macs,
    "linear": counts.linear,
    "reach": computations.reach,
    "content": computations.content,
    "modules": computations.modules,
    "groups": computations.groups,
    "range": computations.output_range,
    "latency": runs.latency,
    "memory": runs.memory,
    "counter": runs.counter,
    "none": lambda claim, baseline, given: Finding("undecided", claim.why),
}

# Measures whose baseline is a network, a counter or a table, not an operator.
WITHOUT_OPERATOR = ("printed", "overhead", "modules", "counter", "linear")


def evaluate(runs: Sequence[Run] = (), claims: Sequence[Claim] | None = None) -> tuple[Answer, ...]:
    """Every claim against every baseline of it; what needs a run document and finds none is undecided."""
    return tuple(_answers(load() if claims is None else claims, [Document(run, standings(run)) for run in runs]))


def load(*paths: Path) -> tuple[Claim, ...]:
    """The claims of TOML files (none: opbench's own); OpbenchError names the file and what is wrong in it."""
    return tuple(claim for path in paths or BUILT_IN for claim in _read(path))


def _read(path: Path) -> tuple[Claim, ...]:
    try:
        claims = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")).get("claim", []), tuple[Claim, ...])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise OpbenchError(f"claims file {path}: {error}") from error
    for claim in claims:
        if claim.measure not in MEASURES:
            raise OpbenchError(f"claims file {path}: {nearest('measure', claim.measure, MEASURES)}")
    return claims


def _answers(claims: Sequence[Claim], given: Sequence[Document]) -> Iterator[Answer]:
    for claim in claims:
        for baseline in claim.baselines:
            why = _unknown(claim, baseline)
            found = Finding("undecided", why) if why else MEASURES[claim.measure](claim, baseline, given)
            yield Answer(
                claim.claim, claim.source, found.verdict, found.evidence, baseline, claim.reading, found.documents
            )


def _unknown(claim: Claim, baseline: str) -> str:
    """Which side of the claim, or which setting of it, opbench has nothing of; nothing where it has both."""
    known = registry.operators(claim.task) if claim.task else {}
    sides = [name.partition("[")[0] for name in (claim.subject, baseline)]
    for name in sides[: 1 if claim.measure in WITHOUT_OPERATOR else 2]:
        if claim.task and name and name not in known:
            return f"opbench has no {name} in the task {claim.task} here"
    subject = known.get(sides[0])
    task = registry.tasks()[claim.task] if subject else None
    if subject is None or task is None or claim.measure not in ("parameters", "MACs", "linear"):
        return ""
    settings = {*task.dims, *task.defaults, *subject.settings, "N", "H", "W"}
    unset = [name for dims in claim.dims for name in dims if name not in settings]
    return f"{subject.name} has no setting {unset[0]} here" if unset else ""
