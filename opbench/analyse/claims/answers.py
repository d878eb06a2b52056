"""Claims of papers and write-ups against what is counted, computed and measured: confirmed, refuted or undecided.

The claims are data (`claims.toml`); each names one of the measures below. A measure answers one claim against one
baseline, because the same saying is right of one rival and wrong of another.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from opbench.analyse.claims import computations, counts, runs
from opbench.analyse.claims.nouns import Answer, Claim, Document, Finding, Measure
from opbench.analyse.standings import standings
from opbench.errors import nearest
from opbench.schema import OpbenchError, Run

BUILT_IN = Path(__file__).with_name("claims.toml")

MEASURES: Mapping[str, Measure] = {
    "printed": counts.printed,
    "overhead": counts.overhead,
    "parameters": counts.parameters,
    "MACs": counts.macs,
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


def evaluate(runs: Sequence[Run] = (), claims: Sequence[Claim] | None = None) -> tuple[Answer, ...]:
    """Every claim against every baseline of it; what needs a run document and finds none is undecided."""
    return tuple(_answers(load() if claims is None else claims, [Document(run, standings(run)) for run in runs]))


def load(path: Path = BUILT_IN) -> tuple[Claim, ...]:
    """The claims of a TOML file; OpbenchError names the file and what is wrong in it."""
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
            found = MEASURES[claim.measure](claim, baseline, given)
            yield Answer(
                claim.claim, claim.source, found.verdict, found.evidence, baseline, claim.reading, found.documents
            )
